#!/usr/bin/env bash
# schemathesis.sh URL: fuzzes the HTTP API at URL by the OpenAPI document that it serves. How many examples there are of each
# operation bounds it, and no clock, so that every machine tries the same. The token is LOCKGATE_API_TOKEN. Schemathesis comes
# from PyPI into a virtual environment of its own, made once.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
state=${LOCKGATE_SERVICES_DIR:-$here/../../.dev}
# shellcheck source=ops/dev/lib.sh
. "$here/lib.sh"

readonly url=${1:?URL} version=4.32.5
readonly venv=$(cache_dir)/schemathesis-$version
: "${LOCKGATE_API_TOKEN:?the token to use}"

# Made beside its place and moved there whole, so that a run that was cut off leaves nothing that looks complete.
make_venv() {
  local new
  mkdir -p "$(cache_dir)"
  new=$(mktemp -d "$(cache_dir)/schemathesis.XXXXXX")
  if python3 -m venv "$new" && "$new/bin/pip" install -q --disable-pip-version-check "schemathesis==$version"; then
    # Its scripts name their place; python -m does not.
    mv -T "$new" "$venv" 2>/dev/null || rm -rf "$new"
    return 0
  fi
  rm -rf "$new"
  return 1
} >&2

# What was not run has not passed: only who says that PyPI is out of reach goes without.
if [ -n "${LOCKGATE_WITHOUT_PYPI-}" ]; then
  echo "skipped: the HTTP API was not fuzzed, for LOCKGATE_WITHOUT_PYPI is set"
  exit 0
fi
[ -x "$venv/bin/python" ] || make_venv || {
  echo "schemathesis $version cannot be had from PyPI; LOCKGATE_WITHOUT_PYPI=1 leaves it out" >&2
  exit 1
}

# Anything but a documented status, media type or body fails; so does every error of the server but 503, which a test's door
# answers on purpose, and so does a request of the schema that is refused.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat >schemathesis.toml <<'TOML'
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503"]
positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "409", "429", "503"]
TOML
# To a JSON schema 7.0 is an integer; we take none that is written so, as no client in its senses writes it. What is larger than
# any of our integers stays as it was drawn. What a run is told is JSON of Postgres, which has no zero character.
cat >hooks.py <<'PYTHON'
import schemathesis


def without_zeros(value):
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, list):
        return [without_zeros(one) for one in value]
    if isinstance(value, dict):
        return {name.replace("\0", ""): without_zeros(one) for name, one in value.items()}
    return value


@schemathesis.hook
def map_body(context, body):
    if not isinstance(body, dict):
        return body
    if "payload" in body:
        body = {**body, "payload": without_zeros(body["payload"])}
    whole = lambda value: isinstance(value, float) and value.is_integer() and abs(value) < 2**63
    return {name: int(value) if whole(value) else value for name, value in body.items()}
PYTHON
SCHEMATHESIS_HOOKS=hooks "$venv/bin/python" -m schemathesis.cli run "$url/api/v1/openapi.json" --url "$url" \
  --header "Authorization: Bearer $LOCKGATE_API_TOKEN" --checks all \
  --max-examples "${SCHEMATHESIS_EXAMPLES:-60}" --seed "${SCHEMATHESIS_SEED:-4}" --no-color
