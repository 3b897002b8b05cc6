# shellcheck shell=bash disable=SC2154
# What the scripts of this directory share: messages, ports, locks, processes. Sourced, never run. Needs Linux's /proc.
# The sourcing script sets `state`, the state directory.

say() { printf '%s\n' "$*" >&2; }
die() {
  say "$(basename "$0"): $*"
  exit 1
}

# Longest wait for a server to come up or go away. A Kafka restart has been seen to take 11 s on an idle machine; a busy one
# may take ten times as long.
readonly wait_seconds=180
# What a launch answers when somebody else took the port between our look and the server's bind.
readonly port_taken=75

# N distinct free TCP ports, on one line. They lie below the range the kernel gives to outgoing connections: a client that
# keeps knocking at a stopped server would otherwise, sooner or later, be given that very port as its own and keep it.
free_ports() { # N
  perl -MIO::Socket::INET -e '
    my ($wanted, $low) = ($ARGV[0], 32768);
    if (open my $range, "<", "/proc/sys/net/ipv4/ip_local_port_range") { ($low) = split " ", <$range> }
    my @held;
    for (1 .. 1000) {
      last if @held == $wanted;
      my $port = $low > 20000 ? 10000 + int rand($low - 10000) : 0;
      my $socket = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $port, Proto => "tcp", Listen => 1);
      push @held, $socket if $socket;
    }
    die "no free port on 127.0.0.1\n" if @held < $wanted;
    print join(" ", map { $_->sockport } @held), "\n";' "$1"
}

# Does PID itself listen on PORT? An open port alone may be somebody else's server.
listens() { # PID PORT
  local inode inodes
  mapfile -t inodes < <(
    awk -v port="$(printf ':%04X' "$2")" '$4 == "0A" && $2 ~ port "$" { print $10 }' /proc/net/tcp /proc/net/tcp6 2>/dev/null
  )
  for inode in "${inodes[@]}"; do
    [ -n "$(find "/proc/$1/fd" -lname "socket:\[$inode\]" -print -quit 2>/dev/null)" ] && return 0
  done
  return 1
}

# The status that a request of this machine is answered with, or nothing.
probe() { # PORT PATH
  local line
  exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
  printf 'GET %s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n' "$2" >&3
  read -r -t 5 line <&3 || line=
  exec 3>&-
  [[ $line =~ ^HTTP/1.1\ ([0-9]+) ]] && echo "${BASH_REMATCH[1]}"
} 2>/dev/null

# Is PID alive and its command line ours? A pid from a file proves nothing: the number may have been given away since.
is_ours() { # PID MARK
  local words
  [[ $1 =~ ^[0-9]+$ ]] && mapfile -d '' -t words <"/proc/$1/cmdline" && [[ "${words[*]}" == *"$2"* ]]
} 2>/dev/null

wait_gone() { # PID MARK
  local i
  for ((i = 0; i < wait_seconds * 20; i++)); do
    is_ours "$1" "$2" || return 0
    sleep 0.05
  done
  return 1
}

# PID and all its children. Children first or last matters to who freezes them, so the order is fixed: PID is the first.
family() { # PID
  echo "$1"
  grep -l "^PPid:[[:space:]]*$1\$" /proc/[0-9]*/status 2>/dev/null | cut -d / -f 3
}

is_frozen() { grep -q '^State:[[:space:]]*T' "/proc/$1/status" 2>/dev/null; }

# Starts COMMAND as a session of its own (a Ctrl-C at the terminal is not for servers) and waits until it listens on PORT.
launch_daemon() { # NAME PORT COMMAND…
  local name=$1 port=$2 pid i
  local log=$state/$name/log
  shift 2
  (
    close_fds
    cd /
    exec setsid "$@"
  ) >>"$log" 2>&1 </dev/null &
  pid=$!
  echo "$pid" >"$state/$name/pid"
  for ((i = 0; i < wait_seconds * 20; i++)); do
    listens "$pid" "$port" && return 0
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.05
  done
  { kill -KILL "$pid" && wait "$pid"; } 2>/dev/null
  if grep -q 'BindException\|Address already in use' "$log"; then return "$port_taken"; fi
  tail -n 30 "$log" >&2
  return 1
}

# The pid that launch_daemon left, if that process still is the one it started.
daemon_pid() { # NAME MARK
  local pid
  pid=$(cat "$state/$1/pid" 2>/dev/null) && is_ours "$pid" "$2" && echo "$pid"
}

halt_daemon() { # NAME MARK stop|kill
  local pid signal=TERM
  pid=$(daemon_pid "$1" "$2") || return 0
  [ "$3" = stop ] || signal=KILL
  kill "-$signal" "$pid"
  wait_gone "$pid" "$2" && return 0
  say "$1 (pid $pid) did not stop within $wait_seconds s, so it is killed"
  kill -KILL "$pid"
  wait_gone "$pid" "$2"
}

# Lets go of all descriptors but the standard ones: a server that inherited a lock or a pipe would hold it for its whole life.
close_fds() {
  local fd
  for fd in /proc/self/fd/*; do
    fd=${fd##*/}
    if [ "$fd" -gt 2 ]; then eval "exec $fd>&-"; fi
  done
}

# Takes the lock of NAME until the calling (sub)shell ends. `down` removes the lock file, so a waiter looks again.
lock() { # NAME
  mkdir -p "$state"
  while :; do
    exec 9>"$state/$1.lock"
    flock 9
    [ "$state/$1.lock" -ef /proc/self/fd/9 ] && return 0
  done
}

# The directory of a server that may run as another user: in the state directory, or in /tmp when that user cannot get there
# (a checkout below /root, say). A link beside the server's other files remembers which.
home_of() { readlink -f "$state/$1/home"; }

make_home() { # NAME, after set_runner
  local home=$state/$1/home
  [ -e "$home" ] && return 0
  mkdir -p "$state/$1/own"
  [ ${#runner[@]} = 0 ] || chown "$server_user" "$state/$1/own"
  if "${runner[@]}" test -x "$state/$1/own/."; then
    ln -sfn own "$home"
    return 0
  fi
  local outside
  outside=$(mktemp -d "/tmp/lockgate-$1.XXXXXX")
  chown "$server_user" "$outside"
  ln -sfn "$outside" "$home"
}

# Removes what NAME left behind. Only a directory that make_home made is followed out of the state directory.
remove_home() { # NAME
  local home
  home=$(home_of "$1" 2>/dev/null) || home=
  case $home in /tmp/lockgate-"$1".*) rm -rf "$home" ;; esac
  rm -rf "${state:?}/$1" "$state/$1.lock"
}

# Postgres and PgBouncer refuse to run as root. Sets server_user, and runner: what to put in front of a command to run it as
# that user (nothing, unless we are root).
set_runner() {
  server_user=$(id -un)
  runner=()
  [ "$(id -u)" = 0 ] || return 0
  server_user=nobody
  ! id -u postgres >/dev/null 2>&1 || server_user=postgres
  runner=(setpriv --reuid="$server_user" --regid="$(id -g "$server_user")" --clear-groups env HOME=/tmp)
}

# Where downloads are kept, outside the checkout.
cache_dir() {
  if [ -n "${XDG_CACHE_HOME-}" ]; then
    echo "$XDG_CACHE_HOME/lockgate"
  else
    echo "$HOME/.cache/lockgate"
  fi
}
