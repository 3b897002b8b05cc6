#!/usr/bin/env bash
# aiosmtpd.sh: prints a Python that has aiosmtpd, the mail server of the tests, fetched from PyPI once.
# Run it:  $(ops/dev/aiosmtpd.sh) -m aiosmtpd -n -l 127.0.0.1:PORT -c aiosmtpd.handlers.Mailbox MAILDIR
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR
{
  source "$here/lib.sh"
  source "$here/packages.sh"
}
readonly version=1.4.6

need_basics
need python3=python3
folder=$(cache_dir)/aiosmtpd-$version
mkdir -p "$(cache_dir)"
exec 8>"$folder.lock"
flock 8
# Its scripts name their own folder, so it is made where it stays, and its last file says that it is whole.
if [ ! -e "$folder/whole" ]; then
  rm -rf "$folder"
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  python3 -m venv "$folder" >"$log" 2>&1 &&
    "$folder/bin/python" -m pip install --disable-pip-version-check -q "aiosmtpd==$version" >>"$log" 2>&1 || {
    tail -n 5 "$log" >&2
    die "aiosmtpd $version cannot be had; is PyPI within reach?"
  }
  touch "$folder/whole"
fi
echo "$folder/bin/python"
