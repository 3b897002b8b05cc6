#!/usr/bin/env bash
# postgres-binaries.sh VERSION: prints a directory with the server binaries of another Postgres, fetching them once.
# VERSION is a major release (14 to 18: the minor release pinned below) or a full one, such as 18.6.0. Used as
#   PG_BIN=$(ops/dev/postgres-binaries.sh 18) ops/dev/with-services.sh ops/dev/test.sh short
# The folder holds initdb, pg_ctl and postgres, no psql. Two at once are safe.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR
{
  source "$here/lib.sh"
  source "$here/packages.sh"
}

full_version() {
  case $1 in
    14) echo 14.24.0 ;;
    15) echo 15.19.0 ;;
    16) echo 16.15.0 ;;
    17) echo 17.11.0 ;;
    18) echo 18.6.0 ;;
    *.*.*) echo "$1" ;;
    *) die "VERSION is one of 14 15 16 17 18 or a full one such as 18.6.0, not '$1'" ;;
  esac
}

architecture() {
  case $(uname -m) in
    x86_64) echo amd64 ;;
    aarch64) echo arm64v8 ;;
    *) die "no Postgres binaries are known for $(uname -m); set PG_BIN to some of your own" ;;
  esac
}

pom() { # VERSION
  cat <<XML
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>lockgate.dev</groupId><artifactId>postgres</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>io.zonky.test.postgres</groupId>
      <artifactId>embedded-postgres-binaries-linux-$(architecture)</artifactId>
      <version>$1</version>
    </dependency>
  </dependencies>
</project>
XML
}

# The folder appears whole or not at all, as kafka_fetch does it.
fetch() { # VERSION FOLDER
  local work
  say "fetching Postgres $1 from Maven Central (once, 15 MiB)"
  work=$(mktemp -d "$2.XXXXXX")
  # shellcheck disable=SC2064 # work is local: its value is wanted now
  trap "rm -rf '$work'" EXIT
  pom "$1" >"$work/pom.xml"
  maven "$work" dependency:unpack-dependencies -DoutputDirectory="$work/jar" ||
    die "Maven could not fetch Postgres $1; is that a release, and Maven Central within reach?"
  mkdir "$work/postgres"
  tar -xJf "$work"/jar/postgres-linux-*.txz -C "$work/postgres"
  chmod -R a+rX "$work/postgres"
  mv -T "$work/postgres" "$2"
}

[ $# = 1 ] || die "wants one VERSION, such as 18"
version=$(full_version "$1")
need_basics
need_java
need xz=xz-utils tar=tar
# Root's own cache is closed to the user that Postgres runs as.
cache=$(cache_dir)
[ "$(id -u)" != 0 ] || cache=/var/cache/lockgate
folder=$cache/postgres-$version
mkdir -p "$cache"
exec 8>"$folder.lock"
flock 8
[ -d "$folder" ] || fetch "$version" "$folder"
echo "$folder/bin"
