#!/usr/bin/env bash
# helm.sh: prints a helm, built once from its Go module and kept outside the checkout; one on PATH is used as it is.
# Where neither can be had it says so in one line and ends with 3.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR
source "$here/lib.sh"
readonly version=v3.22.0 cannot=3

if command -v helm >/dev/null 2>&1; then
  command -v helm
  exit 0
fi
folder=$(cache_dir)/helm-$version
mkdir -p "$folder"
exec 8>"$folder.lock"
flock 8
if [ ! -x "$folder/helm" ]; then
  command -v go >/dev/null 2>&1 || {
    say "helm.sh: neither helm nor go is on this machine"
    exit "$cannot"
  }
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  say "building helm $version from its Go module (once, a few minutes)"
  GOBIN=$folder GOFLAGS=-buildvcs=false nice go install "helm.sh/helm/v3/cmd/helm@$version" >"$log" 2>&1 || {
    tail -n 5 "$log" >&2
    say "helm.sh: helm $version cannot be built; is the Go module proxy within reach?"
    exit "$cannot"
  }
fi
echo "$folder/helm"
