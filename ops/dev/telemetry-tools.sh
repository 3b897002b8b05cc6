#!/usr/bin/env bash
# telemetry-tools.sh: prints what names a Prometheus, a promtool and an OpenTelemetry Collector, for `eval`. They are built once
# from their Go modules and kept outside the checkout. Where they cannot be had it says so in one line that begins with
# `skipped:` and ends with 3.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR
source "$here/lib.sh"
readonly cannot=3
readonly prometheus_version=v0.316.0
# All modules of one release go together, and the newer ones of contrib do not build. The number behind it goes up with
# otelcol/main.go.txt: a build is kept for good.
readonly collector_version=v0.161.0 confmap_version=v1.67.0 collector_build=2

skip() {
  say "skipped: $*"
  exit "$cannot"
}

# Both programs exclude versions in their go.mod, which `go install MODULE@VERSION` refuses: hence a module of our own.
module() { # FOLDER NAME
  mkdir -p "$1" && cd "$1" &&
    printf 'module lockgate.dev/%s\n\ngo %s\n' "$2" "$(go env GOVERSION | sed 's/^go//; s/[^0-9.].*//')" >go.mod
}

build() { # PACKAGE TO
  CGO_ENABLED=0 GOFLAGS="-buildvcs=false -mod=mod" nice -n 19 go build -p "${GO_BUILD_JOBS:-1}" -trimpath -ldflags='-s -w' -o "$2" "$1"
}

build_prometheus() { # WORK
  (
    local path=github.com/prometheus/prometheus/cmd
    module "$1/module" prometheus &&
      go get "$path/prometheus@$prometheus_version" "$path/promtool@$prometheus_version" &&
      build "$path/promtool" "$1/bin/promtool" && build "$path/prometheus" "$1/bin/prometheus"
  )
}

build_collector() { # WORK
  (
    local core=go.opentelemetry.io/collector contrib=github.com/open-telemetry/opentelemetry-collector-contrib
    module "$1/module" collector && cp "$here/otelcol/main.go.txt" main.go &&
      go get "$core/otelcol@$collector_version" "$core/service@$collector_version" "$core/receiver/otlpreceiver@$collector_version" \
        "$core/processor/batchprocessor@$collector_version" "$core/processor/memorylimiterprocessor@$collector_version" \
        "$core/exporter/otlphttpexporter@$collector_version" "$core/exporter/debugexporter@$collector_version" \
        "$contrib/exporter/fileexporter@$collector_version" \
        "$core/confmap@$confmap_version" "$core/confmap/provider/envprovider@$confmap_version" \
        "$core/confmap/provider/fileprovider@$confmap_version" "$core/confmap/provider/yamlprovider@$confmap_version" &&
      build . "$1/bin/otelcol"
  )
}

# Two at once are safe: the folder appears whole or not at all.
made() { # FOLDER WHAT BUILD
  (
    exec 8>"$1.lock"
    flock 8
    [ ! -d "$1" ] || exit 0
    command -v go >/dev/null 2>&1 || skip "go is not on this machine, and $2 is built with it"
    work=$(mktemp -d "$1.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    mkdir "$work/bin"
    say "building $2 from its Go modules (once, some minutes)"
    "$3" "$work" 8>&- >"$work/log" 2>&1 || {
      tail -n 5 "$work/log" >&2
      skip "$2 cannot be built; is the Go module proxy within reach?"
    }
    mv -T "$work/bin" "$1"
  )
}

prometheus=$(cache_dir)/prometheus-$prometheus_version
collector=$(cache_dir)/otelcol-$collector_version-$collector_build
mkdir -p "$(cache_dir)"
made "$prometheus" "Prometheus $prometheus_version" build_prometheus
made "$collector" "the OpenTelemetry Collector $collector_version" build_collector
echo "export LOCKGATE_PROMETHEUS=$prometheus/prometheus LOCKGATE_PROMTOOL=$prometheus/promtool LOCKGATE_OTELCOL=$collector/otelcol"
