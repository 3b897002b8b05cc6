# shellcheck shell=bash disable=SC2154
# One Postgres server of the state directory. Sourced by services.sh, which holds the lock.
# Durability is the default one (fsync on): what the tests prove must hold for the settings people run.

# The newest server binaries of this machine. initdb wants its siblings beside it, so never a link to one of them.
find_postgres() {
  local dir
  for dir in $(printf '%s\n' /usr/lib/postgresql/*/bin /usr/pgsql-*/bin | sort -V -r); do
    [ -x "$dir/initdb" ] && echo "$dir" && return 0
  done
  dir=$(readlink -f "$(command -v initdb 2>/dev/null)") && [ -x "$dir" ] && dirname "$dir"
}

postgres_prepare() { need_postgres; }

postgres_ports() { free_ports 1; }

postgres_pid() {
  local home pid
  home=$(home_of postgres 2>/dev/null) && [ -s "$home/data/postmaster.pid" ] || return 1
  pid=$(head -n 1 "$home/data/postmaster.pid")
  is_ours "$pid" "$home/data" && echo "$pid"
}

postgres_log() { echo "$(home_of postgres)/log"; }

postgres_env() { echo "export DATABASE_URL=postgres://postgres@127.0.0.1:$1/postgres"; }

postgres_launch() { # PORT
  local home bin options out=$state/postgres/pg_ctl.log
  make_home postgres
  home=$(home_of postgres)
  postgres_remember
  bin=$(<"$state/postgres/bin")
  options=$(<"$state/postgres/options")
  "${runner[@]}" test -x "$bin/postgres" ||
    die "user $server_user cannot run $bin/postgres; is it there, and below directories which that user may enter?"
  [ -s "$home/data/PG_VERSION" ] || postgres_init "$home" "$bin" || return 1
  # No unix socket: its path may be too long for the system (107 bytes), and everybody comes over TCP.
  local settings="-p $1 -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=500 $options"
  (
    close_fds
    cd /
    "${runner[@]}" "$bin/pg_ctl" -D "$home/data" -l "$home/log" -w -t "$wait_seconds" -s -o "$settings" start
  ) >"$out" 2>&1 && return 0
  grep -q 'could not create any TCP/IP sockets\|Address already in use' "$home/log" 2>/dev/null && return "$port_taken"
  tail -n 20 "$out" "$home/log" >&2
  return 1
}

# A cluster keeps the binaries and options it was made with: a later `start` may run in another environment.
postgres_remember() {
  local bin
  if [ -n "${PG_BIN-}" ] || [ ! -s "$state/postgres/bin" ]; then
    bin=${PG_BIN:-$(find_postgres)} || die "no Postgres server binaries; install postgresql or set PG_BIN"
    echo "$bin" >"$state/postgres/bin"
  fi
  if [ -n "${PG_OPTS-}" ] || [ ! -e "$state/postgres/options" ]; then
    echo "${PG_OPTS-}" >"$state/postgres/options"
  fi
}

# Made aside and moved into place, so that an interrupted initdb is never taken for a cluster.
postgres_init() { # HOME BIN
  rm -rf "$1/new"
  (
    close_fds
    cd /
    "${runner[@]}" "$2/initdb" -D "$1/new" -U postgres -A trust -E UTF8 --locale=C --no-instructions --no-sync
  ) >"$state/postgres/initdb.log" 2>&1 || {
    cat "$state/postgres/initdb.log" >&2
    return 1
  }
  mv "$1/new" "$1/data"
}

postgres_halt() { # stop|kill
  local mode=fast
  postgres_pid >/dev/null || return 0
  [ "$1" = stop ] || mode=immediate
  (
    close_fds
    cd /
    "${runner[@]}" "$(<"$state/postgres/bin")/pg_ctl" -D "$(home_of postgres)/data" -m "$mode" -w -t "$wait_seconds" -s stop
  )
}
