#!/usr/bin/env bash
# demo.sh: builds the binary and shows the whole path, from seeding to proof. KEEP=1 leaves all of it running.
# DATABASE_URL and KAFKA_BROKERS are used when set (the demo then makes a database or topic of its own there);
# what is not set is started under .dev (kept: .dev/demo). Further arguments go to `lockgate demo`.
# The dev profile, because it builds in a fraction of the time and 100,000 users do not need more.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source-path=SCRIPTDIR
source "$here/lib.sh"
cd "$root"

arguments=("$@")
services=()
[ -n "${DATABASE_URL-}" ] || services+=(postgres)
if [ -z "${KAFKA_BROKERS-}" ]; then
  if "$here/services.sh" tools kafka; then
    services+=(kafka)
    arguments+=(--services "$here/services.sh")
  else
    say "Java, Maven or Kafka's jars cannot be had, so the demo uses librdkafka's mock broker, in its own memory:"
    say "all of the path but the real broker; nothing that it holds outlives the process"
    arguments+=(--mock-broker)
  fi
else
  # Somebody's brokers: a topic of the demo's own.
  arguments+=(--topic lockgate_demo_email_commands)
fi

"$here/services.sh" tools build
"${CARGO:-cargo}" build --locked -p lockgate-workflows --bin lockgate

# What is kept has a place that people find again; else each demo has its own, so that two at once are strangers.
options=(--services "${services[*]}")
if [ "${KEEP-}" = 1 ]; then
  options+=(--dir "$root/.dev/demo" --keep)
  arguments+=(--keep)
fi
exec "$here/with-services.sh" "${options[@]}" "${CARGO_TARGET_DIR:-target}/debug/lockgate" demo "${arguments[@]}"
