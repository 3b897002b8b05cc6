#!/usr/bin/env bash
# test-telemetry.sh: metrics, traces and alert rules against a real Prometheus and a real OpenTelemetry Collector, which
# telemetry-tools.sh builds once. Where they cannot be had it says so in one line and ends well.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

code=0
tools=$(ops/dev/telemetry-tools.sh) || code=$?
[ "$code" != 3 ] || exit 0
[ "$code" = 0 ] || exit "$code"
eval "$tools"
"$LOCKGATE_PROMTOOL" check config ops/prometheus/prometheus.yaml
"$LOCKGATE_PROMTOOL" test rules ops/prometheus/tests/lockgate.yaml
cargo=${CARGO:-cargo}
# The tests start a replica as a child; cargo does not build it for them.
"$cargo" build --workspace --locked --features failpoints --bins
exec ops/dev/with-services.sh "$cargo" test --workspace --locked --features failpoints --test grafana --test live_telemetry
