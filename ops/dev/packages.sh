# shellcheck shell=bash
# Installs what is missing (apt, as root, on Debian and its kin) or prints the commands that would. Sourced, never run.

# Each argument is COMMAND=PACKAGE: the package is wanted when the command is not found.
need() {
  local pair package packages=()
  for pair; do
    package=${pair#*=}
    command -v "${pair%%=*}" >/dev/null 2>&1 || [[ " ${packages[*]} " == *" $package "* ]] || packages+=("$package")
  done
  [ ${#packages[@]} = 0 ] && return 0
  install_packages "${packages[@]}"
  for pair; do
    command -v "${pair%%=*}" >/dev/null 2>&1 || die "${pair%%=*} is still not found, though ${pair#*=} is installed; look at PATH"
  done
}

need_basics() { need flock=util-linux setsid=util-linux setpriv=util-linux perl=perl-base awk=mawk find=findutils; }

need_postgres() {
  need_basics
  [ -n "${PG_BIN-}" ] || find_postgres >/dev/null || install_packages postgresql
}

need_java() { need java=openjdk-17-jre-headless mvn=maven; }

# Maven, seen only when it fails. Reads FOLDER/pom.xml.
maven() { # FOLDER GOAL…
  local folder=$1
  shift
  mvn -B -q -l "$folder/maven.log" -f "$folder/pom.xml" "$@" >/dev/null && return 0
  tail -n 20 "$folder/maven.log" >&2
  return 1
}

# What a build of the workspace needs: librdkafka is compiled from source with cc, c++ and make, against OpenSSL.
need_build() {
  need cc=build-essential c++=build-essential make=build-essential pkg-config=pkg-config
  pkg-config --exists openssl || install_packages libssl-dev
  command -v cargo >/dev/null 2>&1 || die "cargo is missing; install Rust 1.94 or newer with rustup (rustup.rs), then try again"
}

install_packages() {
  local -a install=(apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=600)
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    say "missing on this machine: $*. On Debian, run:"
    say "  sudo apt-get update"
    say "  sudo ${install[*]} $*"
    say "elsewhere install the same things by your own means, then try again"
    exit 1
  fi
  say "installing $*"
  (
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    # One after the other: the first to end would remove the policy under the others.
    exec 7>/tmp/lockgate-packages.lock
    flock 7
    hold_daemons
    trap 'release_daemons; rm -f "$log"' EXIT
    {
      apt-get update -o DPkg::Lock::Timeout=600
      # A machine that had no Postgres must not get a running cluster of Debian's beside ours.
      case " $* " in *" postgresql "*) "${install[@]}" postgresql-common && no_main_cluster ;; esac
      # Debian 13 has newer Java only; Kafka wants 17 or newer.
      apt-cache show openjdk-17-jre-headless || set -- "${@/openjdk-17-jre-headless/default-jre-headless}"
      "${install[@]}" "$@"
    } >"$log" 2>&1 || {
      tail -20 "$log" >&2
      exit 1
    }
  ) || die "apt-get could not install $*"
  hash -r
}

# Debian starts a service as soon as its package is installed; this file tells it not to, for as long as the install takes.
readonly policy=/usr/sbin/policy-rc.d
hold_daemons() {
  held=
  [ ! -e "$policy" ] || return 0
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  held=1
}

release_daemons() { [ -z "$held" ] || rm -f "$policy"; }

no_main_cluster() {
  local conf=/etc/postgresql-common/createcluster.conf
  grep -q '^create_main_cluster' "$conf" 2>/dev/null || echo 'create_main_cluster = false' >>"$conf"
}
