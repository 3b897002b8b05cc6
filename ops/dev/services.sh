#!/usr/bin/env bash
# Real servers for development and tests, without Docker. `services.sh help` says how; ops/README.md says more.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR
{
  source "$here/lib.sh"
  source "$here/packages.sh"
  source "$here/postgres.sh"
  source "$here/kafka.sh"
  source "$here/pgbouncer.sh"
}
readonly known=(postgres kafka pgbouncer)
# Attempts to find ports that nobody takes before our server has them. One is nearly always enough.
readonly port_attempts=5

usage() {
  cat <<'TEXT'
services.sh up [NAME…]      start postgres and kafka (or those named), installing what is missing; nothing if they run
services.sh env             print the addresses: eval "$(ops/dev/services.sh env)"
services.sh status          one line a server; exit 3 unless all of them run
services.sh down            end all of them and remove their data
services.sh stop NAME       stop it cleanly; start NAME brings it back, same port, same data
services.sh kill NAME       end it at once (SIGKILL; for postgres an immediate stop), as a crash would
services.sh freeze NAME     hold all its processes (SIGSTOP); thaw NAME lets them go on
services.sh tools [NAME…]   only install or fetch what these need (also: build)
NAME is postgres, kafka or pgbouncer. State: LOCKGATE_SERVICES_DIR (default .dev/services of the checkout).
TEXT
}

check_name() { [[ " ${known[*]} " == *" $1 "* ]] || die "there is no server '$1'; known are ${known[*]}"; }

# NAME's ports once it has run, else nothing.
ports_of() { cat "$state/$1/ports" 2>/dev/null; }

start_one() ( # NAME; a subshell, for the lock
  name=$1
  lock "$name"
  if pid=$("${name}_pid"); then
    thaw_family "$pid"
    exit 0
  fi
  mkdir -p "$state/$name"
  if read -ra ports < <(ports_of "$name") && [ ${#ports[@]} -gt 0 ]; then
    "${name}_launch" "${ports[@]}" || die "$name did not come back on port ${ports[0]}; see $("${name}_log")"
    exit 0
  fi
  for ((attempt = 0; attempt < port_attempts; attempt++)); do
    read -ra ports < <("${name}_ports")
    status=0
    "${name}_launch" "${ports[@]}" || status=$?
    if [ "$status" = 0 ]; then
      echo "${ports[*]}" >"$state/$name/ports"
      exit 0
    fi
    [ "$status" = "$port_taken" ] || break
    rm -f "$("${name}_log")"
  done
  die "$name did not start; see $state/$name"
)

# Side by side, because each waits mostly for itself; PgBouncer after the Postgres that it stands in front of.
up() {
  local name failed=0 names=("$@") jobs=()
  [ ${#names[@]} -gt 0 ] || names=(postgres kafka)
  for name in "${names[@]}"; do check_name "$name"; done
  for name in "${names[@]}"; do "${name}_prepare"; done
  for name in "${names[@]}"; do
    [ "$name" = pgbouncer ] && continue
    start_one "$name" &
    jobs+=($!)
  done
  for job in "${jobs[@]}"; do wait "$job" || failed=1; done
  if [ "$failed" = 0 ] && [[ " ${names[*]} " == *" pgbouncer "* ]]; then
    start_one pgbouncer || failed=1
  fi
  return "$failed"
}

halt_one() ( # NAME stop|kill
  lock "$1"
  [ -d "$state/$1" ] || die "$1 was never started here ($state)"
  pid=$("$1_pid") || exit 0
  thaw_family "$pid"
  "$1_halt" "$2"
)

# Its data goes anyway, so no server is given time to put it in order.
remove_one() (
  [ -d "$state/$1" ] || exit 0
  lock "$1"
  if pid=$("$1_pid"); then
    thaw_family "$pid"
    "$1_halt" kill
  fi
  remove_home "$1"
)

down() {
  local name
  for name in pgbouncer postgres kafka; do remove_one "$name"; done
  rmdir "$state" 2>/dev/null || :
}

# The parent first, and its children only when it stands still: until then it could make more.
freeze_one() (
  lock "$1"
  pid=$("$1_pid") || die "$1 is not running"
  kill -STOP "$pid"
  until is_frozen "$pid"; do sleep 0.01; done
  mapfile -t pids < <(family "$pid")
  kill -STOP "${pids[@]}"
)

thaw_one() (
  lock "$1"
  pid=$("$1_pid") || die "$1 is not running"
  thaw_family "$pid"
)

thaw_family() { # PID
  local pids
  is_frozen "$1" || return 0
  mapfile -t pids < <(family "$1")
  kill -CONT "${pids[@]}"
}

print_env() {
  local name ports found=
  for name in "${known[@]}"; do
    ports=$(ports_of "$name") || continue
    "${name}_env" "${ports%% *}"
    found=1
  done
  [ -n "$found" ] || die "nothing is up in $state; run: ops/dev/services.sh up"
}

status() {
  local name pid word ports all=0
  for name in "${known[@]}"; do
    ports=$(ports_of "$name") || continue
    word=running
    pid=$("${name}_pid") || word=stopped
    [ "$word" = stopped ] || ! is_frozen "$pid" || word=frozen
    [ "$word" = running ] || all=3
    printf '%-10s %-8s pid %-8s 127.0.0.1:%-6s %s\n' "$name" "$word" "${pid:--}" "${ports%% *}" "$("${name}_log")"
  done
  return "$all"
}

tools() {
  local name
  for name; do
    if [ "$name" = build ]; then
      need_build
    else
      check_name "$name"
      "${name}_prepare"
    fi
  done
}

verb=${1:-help}
shift || :
case $verb in
  stop | start | kill | freeze | thaw)
    [ $# = 1 ] || die "$verb wants one NAME of ${known[*]}"
    check_name "$1"
    ;;
  down | env | status) [ $# = 0 ] || die "$verb takes no NAME" ;;
esac
state=$(realpath -m "${LOCKGATE_SERVICES_DIR:-$here/../../.dev/services}")
set_runner
case $verb in
  up) up "$@" ;;
  down) down ;;
  env) print_env ;;
  status) status ;;
  start) up "$1" ;;
  stop | kill) halt_one "$1" "$verb" ;;
  freeze) freeze_one "$1" ;;
  thaw) thaw_one "$1" ;;
  tools) tools "$@" ;;
  help | -h | --help) usage ;;
  *)
    usage >&2
    die "there is no verb '$verb'"
    ;;
esac
