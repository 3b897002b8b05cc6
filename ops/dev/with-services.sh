#!/usr/bin/env bash
# with-services.sh [--dir DIR] [--services "NAME…"] [--keep] COMMAND…
# Runs COMMAND with servers of its own, takes them down whatever happens, and ends with COMMAND's exit code.
#   --dir DIR        state directory (default: a new one under .dev/, so that any number may run at once)
#   --services NAMES which servers (default "postgres kafka"; "" for none)
#   --keep           leave them up when COMMAND has ended
# A server that is started replaces the variables that name such a server, so what the shell had set is not used.
# COMMAND sees DATABASE_URL, KAFKA_BROKERS, PGBOUNCER_URL, the same with LOCKGATE_TEST_ in front, and LOCKGATE_SERVICES_DIR.
# All talk goes to standard error.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source-path=SCRIPTDIR
source "$here/lib.sh"

dir=
services='postgres kafka'
keep=
while [ $# -gt 0 ]; do
  case $1 in
    --dir) dir=$2 && shift 2 ;;
    --services) services=$2 && shift 2 ;;
    --keep) keep=1 && shift ;;
    -*) die "there is no option '$1'" ;;
    *) break ;;
  esac
done
[ $# -gt 0 ] || die "wants a COMMAND"

# What a Postgres client reads besides the URL (PGHOST, PGPASSWORD, PGOPTIONS, …); PG_BIN and PG_OPTS are ours.
forget_postgres() {
  local name
  unset DATABASE_URL DATABASE_URL_DIRECT PGBOUNCER_URL
  for name in $(compgen -v PG); do
    case $name in PG_*) ;; *) unset "$name" ;; esac
  done
}

export_addresses() {
  eval "$("$here/services.sh" env)"
  [ -z "${DATABASE_URL-}" ] || export LOCKGATE_TEST_DATABASE_URL=$DATABASE_URL
  [ -z "${KAFKA_BROKERS-}" ] || export LOCKGATE_TEST_KAFKA_BROKERS=$KAFKA_BROKERS
  [ -z "${PGBOUNCER_URL-}" ] || export LOCKGATE_TEST_PGBOUNCER_URL=$PGBOUNCER_URL
}

# COMMAND is a process group of its own: all of it can be ended, also what a broken test left running or frozen.
group=
ended=
# shellcheck disable=SC2317 # finish calls it
end_group() {
  local i
  [ -n "$group" ] && kill -TERM -- "-$group" || return 0
  for ((i = 0; i < 200; i++)); do
    kill -0 -- "-$group" || return 0
    sleep 0.05
  done
  kill -KILL -- "-$group" || :
} 2>/dev/null

# shellcheck disable=SC2317 # the trap calls it
finish() {
  local code=$?
  trap '' INT TERM HUP
  if [ -n "$keep" ] && [ -n "$ended" ]; then
    say "left running. Use it:  eval \"\$(LOCKGATE_SERVICES_DIR=$dir ops/dev/services.sh env)\""
    say "end it:  LOCKGATE_SERVICES_DIR=$dir ops/dev/services.sh down"
  else
    end_group
    "$here/services.sh" down || say "some servers may be left; look at $dir"
  fi
  say "$(basename "$command"): exit $code after $((SECONDS / 60)) min $((SECONDS % 60)) s"
  exit "$code"
}

command=$1
mkdir -p "$root/.dev"
if [ -n "$dir" ]; then
  dir=$(realpath -m "$dir")
else
  dir=$(mktemp -d "$root/.dev/run-XXXXXX")
  chmod 755 "$dir"
fi
export LOCKGATE_SERVICES_DIR=$dir
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
case " $services " in *' postgres '*) forget_postgres ;; esac
case " $services " in *' kafka '*) unset KAFKA_BROKERS ;; esac
if [ -n "$services" ]; then
  # shellcheck disable=SC2086 # a list of names
  "$here/services.sh" up $services
  export_addresses
fi
SECONDS=0
set -m
"$@" &
group=$!
set +m
code=0
wait "$group" || code=$?
ended=1
exit "$code"
