#!/usr/bin/env bash
# test.sh short|long|matrix [build]: runs the workspace's tests; the servers are with-services.sh's to give.
# short: everything but the targets whose names begin with long_. long: only those, the matrix, and a Java consumer.
# matrix: the conformance suites through a real PgBouncer, on this Postgres and on another release. build: compile them,
# run nothing.
# Fail points are compiled in (they do nothing until a test arms one), so that one build serves all tests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly kind=${1:?short, long or matrix} build=${2-}
readonly options=(--workspace --locked --features failpoints)
cargo=${CARGO:-cargo}

# Cargo can leave out no target by name, so the wanted ones are listed: each tests/NAME.rs and tests/NAME/main.rs.
short_names() {
  local file name
  for file in */tests/*.rs */tests/*/main.rs; do
    [ -e "$file" ] || continue
    name=${file#*/tests/}
    name=${name%/main.rs}
    name=${name%.rs}
    case $name in long_*) ;; *) echo "$name" ;; esac
  done
}

# These mostly wait, for a lease to end or a child to come up, and measure nothing: two go side by side on each core.
readonly waiting=(crash run_stores schedules workflows)
mapfile -t others < <(short_names | grep -vxF "$(printf '%s\n' "${waiting[@]}")")

waiting_targets=("${waiting[@]/#/--test=}")
targets=("${others[@]/#/--test=}" --lib --bins)
if [ "$kind" = matrix ]; then
  targets=()
elif [ "$kind" = long ]; then
  targets=(--test 'long_*')
  export LOCKGATE_LONG=1
fi

# What every store must do, whatever lies between it and the engine.
readonly suites=(--test conformance --test run_stores)

# Through PgBouncer in transaction mode: what asks for pooler mode goes through it where LOCKGATE_TEST_PGBOUNCER_URL is set.
through_pgbouncer() {
  [ -n "${LOCKGATE_TEST_PGBOUNCER_URL-}" ] || {
    echo "test.sh: no PgBouncer was started (with-services.sh --services \"postgres pgbouncer\")" >&2
    return 1
  }
  "$cargo" test "${options[@]}" "${suites[@]}" -- postgres_in_pooler_mode
}

# The newest major release that is not the one of our server, directly and through PgBouncer.
on_another_postgres() {
  local ours major=18 bin
  ours=$("$(<"$LOCKGATE_SERVICES_DIR/postgres/bin")/postgres" --version)
  [[ $ours != *" 18"* ]] || major=17
  bin=$(ops/dev/postgres-binaries.sh "$major") || {
    echo "skipped: Postgres $major cannot be had here, so the conformance suites ran on no second release" >&2
    return 0
  }
  echo "the conformance suites on Postgres $major, beside $ours" >&2
  env -u LOCKGATE_SERVICES_DIR PG_BIN="$bin" ops/dev/with-services.sh --services "postgres pgbouncer" \
    "$cargo" test "${options[@]}" "${suites[@]}" -- postgres
}

if [ "$build" = build ]; then
  # The tests start the binary as a child; cargo does not build it for another package's tests.
  "$cargo" build "${options[@]}" --bins
  if [ "$kind" = short ]; then
    targets+=("${waiting_targets[@]}")
  else
    targets+=("${suites[@]}")
  fi
  exec "$cargo" test "${options[@]}" --no-run "${targets[@]}"
fi
failed=0
if [ "$kind" = short ]; then
  RUST_TEST_THREADS=$((2 * $(nproc))) "$cargo" test "${options[@]}" --no-fail-fast "${waiting_targets[@]}" || failed=$?
fi
[ "$kind" = matrix ] || "$cargo" test "${options[@]}" --no-fail-fast "${targets[@]}" || failed=$?
if [ "$kind" = short ]; then
  # Cargo runs documentation tests only by themselves.
  "$cargo" test "${options[@]}" --doc || failed=$?
else
  through_pgbouncer || failed=$?
  on_another_postgres || failed=$?
  [ "$kind" = matrix ] || ops/dev/interop.sh || failed=$?
fi
exit "$failed"
