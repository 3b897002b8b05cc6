#!/usr/bin/env bash
# test.sh short|long|matrix [build], test.sh one TARGET: runs the workspace's tests; the servers are with-services.sh's to give.
# short: everything but the targets whose names begin with long_. long: only those, the matrix, and a Java consumer.
# matrix: the conformance suites through a real PgBouncer, on this Postgres and on another release. build: compile them,
# run nothing. one: that target (--test=NAME, --lib or --bins), shown when it has ended.
# What is drawn at random is the same each time in the short ones, unless LOCKGATE_SEED says otherwise, so that no change is
# refused for what chance drew; the long ones draw, say what, and play the models for longer.
# Fail points are compiled in (they do nothing until a test arms one), so that one build serves all tests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly kind=${1:?short, long, matrix or one} what=${2-}
readonly options=(--workspace --locked --features failpoints)
cargo=${CARGO:-cargo}

# Cargo can leave out no target by name, so the wanted ones are listed: each tests/NAME.rs and tests/NAME/main.rs.
targets() {
  local file name length
  for file in */tests/*.rs */tests/*/main.rs; do
    [ -e "$file" ] || continue
    name=${file#*/tests/}
    name=${name%/main.rs}
    name=${name%.rs}
    case $name in long_*) length=long ;; *) length=short ;; esac
    if [ "$length" = "$1" ]; then echo "--test=$name"; fi
  done
}

# Most of them wait, for a lease to end or a child to come up: several go side by side. Those that take longest begin
# first, so that none is alone at the end; another order takes longer and is as good.
readonly longest=(workflows crash run_stores idle conformance broken email_sender schedules direct_servers api telemetry)
side_by_side=4
[ "$kind" != long ] || side_by_side=2
readonly side_by_side

# Played against the stores at random.
readonly models=(--test=workflow_model --test=model)
# What every store must do, whatever lies between it and the engine.
readonly suites=(--test conformance --test run_stores)

# One target; nothing of another comes between what it tells.
one() {
  local told code=0
  told=$(mktemp "$LOCKGATE_SERVICES_DIR/told-XXXXXX")
  "$cargo" test "${options[@]}" --no-fail-fast "$1" >"$told" 2>&1 || code=$?
  flock "$LOCKGATE_SERVICES_DIR" cat "$told"
  rm "$told"
  return "$code"
}

all() {
  {
    [ "$1" = long ] || printf -- '--test=%s\n' "${longest[@]}"
    targets "$1"
    if [ "$1" = long ]; then printf -- '%s\n' "${models[@]}"; else printf -- '%s\n' --lib --bins; fi
  } | awk '!seen[$0]++' | xargs -P "$side_by_side" -I{} ops/dev/test.sh one {}
}

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

case $kind$what in
  shortbuild | longbuild | matrixbuild)
    # The tests start the binary as a child; cargo does not build it for another package's tests.
    "$cargo" build "${options[@]}" --bins
    case $kind in
      short) mapfile -t wanted < <(targets short) && wanted+=(--lib --bins) ;;
      long) mapfile -t wanted < <(targets long) && wanted+=("${suites[@]}" "${models[@]}") ;;
      matrix) wanted=("${suites[@]}") ;;
    esac
    exec "$cargo" test "${options[@]}" --no-run "${wanted[@]}"
    ;;
esac
if [ "$kind" = one ]; then
  one "$what"
  exit
fi
failed=0
case $kind in
  short) export LOCKGATE_SEED=${LOCKGATE_SEED-1} PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED-1} ;;
  long) export LOCKGATE_LONG=1 PROPTEST_CASES=${PROPTEST_CASES-128} ;;
esac
[ "$kind" = matrix ] || all "$kind" || failed=$?
if [ "$kind" = short ]; then
  # Cargo runs documentation tests only by themselves.
  "$cargo" test "${options[@]}" --doc || failed=$?
else
  through_pgbouncer || failed=$?
  on_another_postgres || failed=$?
  [ "$kind" = matrix ] || ops/dev/interop.sh || failed=$?
fi
exit "$failed"
