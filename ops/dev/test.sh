#!/usr/bin/env bash
# test.sh short|long [build]: runs the workspace's tests; the servers are with-services.sh's to give.
# short: everything but the targets whose names begin with long_. long: only those. build: compile them, run nothing.
# Fail points are compiled in (they do nothing until a test arms one), so that one build serves all tests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly kind=${1:?short or long} build=${2-}
readonly options=(--workspace --locked --features failpoints)
cargo=${CARGO:-cargo}

# Cargo can leave out no target by name, so the wanted ones are listed: each tests/NAME.rs and tests/NAME/main.rs.
short_targets() {
  local file name
  for file in */tests/*.rs */tests/*/main.rs; do
    [ -e "$file" ] || continue
    name=${file#*/tests/}
    name=${name%/main.rs}
    name=${name%.rs}
    case $name in long_*) ;; *) printf '%s\n' --test "$name" ;; esac
  done
}

mapfile -t targets < <(short_targets)
targets+=(--lib --bins)
if [ "$kind" = long ]; then
  targets=(--test 'long_*')
  export LOCKGATE_LONG=1
fi

if [ "$build" = build ]; then
  # The tests start the binary as a child; cargo does not build it for another package's tests.
  "$cargo" build "${options[@]}" --bins
  exec "$cargo" test "${options[@]}" --no-run "${targets[@]}"
fi
failed=0
"$cargo" test "${options[@]}" --no-fail-fast "${targets[@]}" || failed=$?
if [ "$kind" = short ]; then
  # Cargo runs documentation tests only by themselves.
  "$cargo" test "${options[@]}" --doc || failed=$?
fi
exit "$failed"
