#!/usr/bin/env bash
# Replicas on this machine, one process each, on the servers that DATABASE_URL and KAFKA_BROKERS name.
#   cluster.sh N          start N replicas and wait until each is ready
#   cluster.sh restart    restart each in turn: asked to stop, ended, started again, ready; then the next
#   cluster.sh status     one line a replica; exit 3 unless all of them are ready
#   cluster.sh down       ask all to stop and wait for their ends
# LOCKGATE_BIN is the binary (default: what `make build` made), LOCKGATE_CLUSTER_DIR where pids and logs are (default
# .dev/cluster), LOCKGATE_DRAIN_DEADLINE what a stopping replica may take (default 25s). Whatever else is in the environment is
# the replicas' to read. Logs: replica-1.log and so on.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR
source "$here/lib.sh"
state=$(realpath -m "${LOCKGATE_CLUSTER_DIR:-$here/../../.dev/cluster}")
export LOCKGATE_DRAIN_DEADLINE=${LOCKGATE_DRAIN_DEADLINE:-25s}

# What `run` takes beyond the drain's own deadline to say what was left.
readonly grace_seconds=5

binary() {
  local found=${LOCKGATE_BIN:-${CARGO_TARGET_DIR:-$here/../../target}/release/lockgate}
  [ -x "$found" ] || die "there is no $found; run make build, or name another binary in LOCKGATE_BIN"
  realpath "$found"
}

replicas() { find "$state" -name 'replica-*.port' 2>/dev/null | sed -E 's/.*replica-([0-9]+)\.port/\1/' | sort -n; }

pid_of() { # NUMBER
  local pid
  pid=$(cat "$state/replica-$1.pid" 2>/dev/null) && is_ours "$pid" ' run' && echo "$pid"
}

now_ms() { date +%s%3N; }
as_seconds() { printf '%d.%01d' $(($1 / 1000)) $(($1 % 1000 / 100)); }

launch() { # NUMBER
  local port program
  port=$(cat "$state/replica-$1.port")
  program=$(binary)
  LOCKGATE_HEALTH_LISTEN=127.0.0.1:$port setsid "$program" run >>"$state/replica-$1.log" 2>&1 </dev/null &
  echo $! >"$state/replica-$1.pid"
}

wait_ready() { # NUMBER
  local port i
  port=$(cat "$state/replica-$1.port")
  for ((i = 0; i < wait_seconds * 20; i++)); do
    [ "$(probe "$port" /health/ready || :)" = 200 ] && return 0
    pid_of "$1" >/dev/null || break
    sleep 0.05
  done
  tail -n 20 "$state/replica-$1.log" >&2
  die "replica $1 did not become ready"
}

# Asks it to stop and waits for its end; gives the time that took, and fails when it was more than it may be.
stop() { # NUMBER
  local pid from took limit
  pid=$(pid_of "$1") || die "replica $1 does not run"
  limit=$((${LOCKGATE_DRAIN_DEADLINE%s} * 1000 + grace_seconds * 1000))
  from=$(now_ms)
  kill -TERM "$pid"
  while is_ours "$pid" " run"; do
    took=$(($(now_ms) - from))
    [ "$took" -le "$limit" ] || die "replica $1 drained longer than its deadline of $LOCKGATE_DRAIN_DEADLINE"
    sleep 0.05
  done
  echo $(($(now_ms) - from))
}

up() { # N
  local number ports
  [ -z "$(replicas)" ] || die "there are replicas in $state already; cluster.sh down ends them"
  [[ $LOCKGATE_DRAIN_DEADLINE =~ ^[0-9]+s$ ]] || die "LOCKGATE_DRAIN_DEADLINE must be whole seconds, such as 25s"
  binary >/dev/null
  mkdir -p "$state"
  read -ra ports < <(free_ports "$1")
  for ((number = 1; number <= $1; number++)); do
    echo "${ports[number - 1]}" >"$state/replica-$number.port"
    launch "$number"
  done
  for ((number = 1; number <= $1; number++)); do
    wait_ready "$number"
    echo "replica $number: ready at http://127.0.0.1:${ports[number - 1]}/health/ready"
  done
}

restart() {
  local number took from all
  all=$(replicas)
  [ -n "$all" ] || die "there are no replicas in $state"
  for number in $all; do
    took=$(stop "$number")
    from=$(now_ms)
    launch "$number"
    wait_ready "$number"
    echo "replica $number: drained in $(as_seconds "$took") s, ready again after $(as_seconds $(($(now_ms) - from))) s"
  done
}

status() {
  local number port answer all=0
  for number in $(replicas); do
    port=$(cat "$state/replica-$number.port")
    answer=$(probe "$port" /health/ready) || answer=gone
    [ "$answer" = 200 ] || all=3
    echo "replica $number: pid $(pid_of "$number" || echo -) port $port $answer"
  done
  return "$all"
}

down() {
  local number failed=0
  for number in $(replicas); do
    pid_of "$number" >/dev/null || continue
    took=$(stop "$number") || { failed=1 && continue; }
    echo "replica $number: drained in $(as_seconds "$took") s"
  done
  [ "$failed" = 1 ] || rm -rf "$state"
  return "$failed"
}

case ${1-} in
  restart | status | down) "$1" ;;
  [1-9] | [1-9][0-9]) up "$1" ;;
  *)
    sed -n '2,10p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//' >&2
    exit 2
    ;;
esac
