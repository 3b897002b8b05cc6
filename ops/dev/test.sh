#!/usr/bin/env bash
# test.sh short|long [build]: runs the workspace's tests; the servers are with-services.sh's to give.
# short: everything but the targets whose names begin with long_. long: only those, the conformance suite on another
# Postgres, and a Java consumer. build: compile them, run nothing.
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

# The conformance suite on the newest major release that is not the one of our server.
on_another_postgres() {
  local ours major=18 bin
  ours=$("$(<"$LOCKGATE_SERVICES_DIR/postgres/bin")/postgres" --version)
  [[ $ours != *" 18"* ]] || major=17
  bin=$(ops/dev/postgres-binaries.sh "$major") || {
    echo "skipped: Postgres $major cannot be had here, so the conformance suite ran on no second release" >&2
    return 0
  }
  echo "the conformance suite on Postgres $major, beside $ours" >&2
  env -u LOCKGATE_SERVICES_DIR PG_BIN="$bin" ops/dev/with-services.sh --services postgres \
    "$cargo" test "${options[@]}" --test conformance
}

if [ "$build" = build ]; then
  # The tests start the binary as a child; cargo does not build it for another package's tests.
  "$cargo" build "${options[@]}" --bins
  [ "$kind" = short ] || targets+=(--test conformance)
  exec "$cargo" test "${options[@]}" --no-run "${targets[@]}"
fi
failed=0
"$cargo" test "${options[@]}" --no-fail-fast "${targets[@]}" || failed=$?
if [ "$kind" = short ]; then
  # Cargo runs documentation tests only by themselves.
  "$cargo" test "${options[@]}" --doc || failed=$?
else
  on_another_postgres || failed=$?
  ops/dev/interop.sh || failed=$?
fi
exit "$failed"
