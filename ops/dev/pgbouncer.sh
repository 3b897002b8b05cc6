# shellcheck shell=bash disable=SC2154
# PgBouncer in transaction mode in front of the state directory's Postgres. Sourced by services.sh, which holds the lock.
# Debian's 1.18 on purpose: it knows nothing of prepared statements, so it is what "pooler mode" has to survive.

find_pgbouncer() { PATH=$PATH:/usr/sbin command -v pgbouncer; }

pgbouncer_prepare() {
  need_basics
  find_pgbouncer >/dev/null || install_packages pgbouncer
}

pgbouncer_ports() { free_ports 1; }

pgbouncer_mark() { echo "$(home_of pgbouncer)/pgbouncer.ini"; }

pgbouncer_pid() { daemon_pid pgbouncer "$(pgbouncer_mark)"; }

pgbouncer_log() { echo "$state/pgbouncer/log"; }

pgbouncer_env() { echo "export PGBOUNCER_URL=postgres://postgres@127.0.0.1:$1/postgres"; }

pgbouncer_launch() { # PORT
  local home postgres_port
  [ -s "$state/postgres/ports" ] || die "pgbouncer stands in front of postgres; start that first"
  read -r postgres_port <"$state/postgres/ports"
  make_home pgbouncer
  home=$(home_of pgbouncer)
  pgbouncer_ini "$1" "$postgres_port" "$home" >"$home/pgbouncer.ini"
  echo '"postgres" ""' >"$home/users.txt"
  chmod 644 "$home/pgbouncer.ini" "$home/users.txt"
  ulimit -S -n 4096
  launch_daemon pgbouncer "$1" "${runner[@]}" "$(find_pgbouncer)" "$(pgbouncer_mark)"
}

# Names other than postgres (the roles of the schema) are looked up in the database behind; nobody is asked for a password.
pgbouncer_ini() { # PORT POSTGRES_PORT HOME
  cat <<INI
[databases]
* = host=127.0.0.1 port=$2 auth_user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $1
unix_socket_dir =
auth_type = trust
auth_file = $3/users.txt
admin_users = postgres
pool_mode = transaction
default_pool_size = ${PGBOUNCER_POOL:-8}
max_client_conn = 2000
ignore_startup_parameters = extra_float_digits
INI
}

pgbouncer_halt() { halt_daemon pgbouncer "$(pgbouncer_mark)" "$1"; } # stop|kill
