#!/usr/bin/env bash
# telemetry-tools.sh: prints the folder that holds prometheus, promtool and otelcol, built once from
# their Go modules and kept outside the checkout. Where they cannot be had it says so in one line that begins with
# `skipped:` and ends with 3.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR
source "$here/lib.sh"
# The folder's number goes up with any of these: a build is kept for good.
readonly recipe=1 cannot=3
readonly prometheus_version=v0.316.0
# All modules of one release go together; the newer contrib modules do not build, see their package lists.
readonly collector_version=v0.161.0 confmap_version=v1.67.0

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
    module "$1/prometheus" prometheus &&
      go get "$path/prometheus@$prometheus_version" "$path/promtool@$prometheus_version" &&
      build "$path/promtool" "$1/bin/promtool" && build "$path/prometheus" "$1/bin/prometheus"
  )
}

build_collector() { # WORK
  (
    local core=go.opentelemetry.io/collector contrib=github.com/open-telemetry/opentelemetry-collector-contrib
    module "$1/collector" collector && cp "$here/otelcol/main.go.txt" main.go &&
      go get "$core/otelcol@$collector_version" "$core/receiver/otlpreceiver@$collector_version" \
        "$core/processor/batchprocessor@$collector_version" "$core/processor/memorylimiterprocessor@$collector_version" \
        "$core/exporter/otlphttpexporter@$collector_version" "$core/exporter/debugexporter@$collector_version" \
        "$contrib/exporter/fileexporter@$collector_version" \
        "$core/confmap@$confmap_version" "$core/confmap/provider/envprovider@$confmap_version" \
        "$core/confmap/provider/fileprovider@$confmap_version" "$core/confmap/provider/yamlprovider@$confmap_version" &&
      build . "$1/bin/otelcol"
  )
}

folder=$(cache_dir)/telemetry-tools-$recipe
mkdir -p "$(dirname "$folder")"
exec 8>"$folder.lock"
flock 8
if [ ! -d "$folder" ]; then
  command -v go >/dev/null 2>&1 || skip "go is not on this machine, and Prometheus and the Collector are built with it"
  work=$(mktemp -d "$folder.XXXXXX")
  mkdir "$work/bin"
  log=$(mktemp)
  trap 'rm -rf "$work" "$log"' EXIT
  say "building Prometheus $prometheus_version and the OpenTelemetry Collector $collector_version (once, some fifteen minutes)"
  { build_prometheus "$work" && build_collector "$work"; } 8>&- >"$log" 2>&1 || {
    tail -n 5 "$log" >&2
    skip "Prometheus or the Collector cannot be built; is the Go module proxy within reach?"
  }
  mv -T "$work/bin" "$folder"
fi
echo "$folder"
