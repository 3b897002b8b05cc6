#!/usr/bin/env bash
# interop.sh: lets `lockgate` send reports to 300 users and has a Java consumer hold each message to what is documented.
# Wants servers: ops/dev/with-services.sh ops/dev/interop.sh
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source-path=SCRIPTDIR
{
  source "$here/lib.sh"
  source "$here/packages.sh"
}
cd "$root"
: "${DATABASE_URL:?start servers: ops/dev/with-services.sh ops/dev/interop.sh}" "${KAFKA_BROKERS:?}"

# One user in ten is inactive and gets no report.
readonly users=300 reports=270
topic=interop_$$_$RANDOM
work=$(mktemp -d "${TMPDIR:-/tmp}/lockgate-interop.XXXXXX")
trap 'rm -rf "$work"' EXIT

need_java
need javac=openjdk-17-jdk-headless
cp -r tests/interop/java/. "$work"
maven "$work" compile dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$work/libs" ||
  die "Maven could not build the Java consumer"

"${CARGO:-cargo}" build --locked -p lockgate-workflows --bin lockgate
"${CARGO_TARGET_DIR:-target}/debug/lockgate" demo --users "$users" --topic "$topic" >"$work/demo.log" 2>&1 || {
  cat "$work/demo.log" >&2
  die "the reports were not sent"
}
java -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$work/target/classes:$work/libs/*" \
  dev.lockgate.interop.CommandCheck "$KAFKA_BROKERS" "$topic" "$reports"
