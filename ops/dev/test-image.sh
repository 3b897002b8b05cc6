#!/usr/bin/env bash
# test-image.sh: builds the image and runs what is in it as compose.yaml and the chart do, on the servers that DATABASE_URL and
# KAFKA_BROKERS name: as nobody, with a root that nothing can write to and no rights of the kernel's. The demo sends its
# reports from within it; then a replica becomes ready, and ends well when it is asked to. CONTAINERS is docker or podman,
# by default whichever is here and works. Where there is none, or the images that it begins with cannot be had, it says so in
# one line that begins with `skipped:` and ends well.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR
source "$here/lib.sh"
cd "$here/../.."
readonly file=ops/docker/Dockerfile image=lockgate:test
# The drain deadline, and what `run` adds to it to say what was left.
readonly drain=25s grace_seconds=35

skip() {
  say "skipped: $*"
  exit 0
}

works() { command -v "$1" >/dev/null && "$1" info >/dev/null 2>&1; }

containers=${CONTAINERS-}
if [ -n "$containers" ]; then
  works "$containers" || die "'$containers info' fails, and CONTAINERS says to use it"
else
  for containers in docker podman ''; do works "$containers" && break; done
  [ -n "$containers" ] || skip "neither docker nor podman works on this machine, and the image is built and run with one"
fi
while read -r base; do
  "$containers" image inspect "$base" >/dev/null 2>&1 && continue
  why=$("$containers" pull -q "$base" 2>&1 >/dev/null) && continue
  # A registry that answers and has none of that name is no matter of this machine.
  [[ ${why,,} != *manifest*unknown* && ${why,,} != *"not found"* ]] || die "$base, which the image begins with, is not there: $why"
  skip "$base, which the image begins with, cannot be had from here: ${why##*$'\n'}"
done < <(sed -nE 's/^FROM ([^ ]+).*/\1/p' "$file")
"$containers" build -f "$file" -t "$image" . >&2
user=$("$containers" image inspect --format '{{.Config.User}}' "$image")
[ "$user" = 65532:65532 ] || die "the image runs as '$user' and not as 65532:65532"

name=lockgate-test-$$
scratch=$(mktemp -d)
secret=$scratch/secrets
trap '"$containers" rm -f "$name" >/dev/null 2>&1 || :; rm -rf "$scratch"' EXIT
# As a secret is given: a file that its user may read. Nobody else on the machine gets into the folder above.
mkdir -m 755 "$secret"
printf '%s' "$DATABASE_URL" >"$secret/database-url"
chmod 444 "$secret/database-url"

read_only=(--read-only)
# podman would put something to write to in /tmp, /run and elsewhere; docker does not, and does not know the option.
[[ $("$containers" run --help 2>&1) != *--read-only-tmpfs* ]] || read_only+=(--read-only-tmpfs=false)

contained() { # OPTION… -- ARGUMENT…
  local options=()
  while [ "$1" != -- ]; do options+=("$1") && shift; done
  shift
  "$containers" run --name "$name" --network host "${read_only[@]}" --cap-drop ALL --security-opt no-new-privileges \
    -v "$secret:/run/secrets:ro" -e DATABASE_URL_FILE=/run/secrets/database-url -e KAFKA_BROKERS="$KAFKA_BROKERS" \
    -e LOCKGATE_DRAIN_DEADLINE="$drain" "${options[@]}" "$image" "$@"
}

# All that the binary needs is in the image: TLS, time zones, librdkafka. The demo makes its schema, seeds, sends and proves.
# It alone writes something, into /tmp.
contained --rm --tmpfs /tmp -- demo --users 5000 --topic lockgate_image_demo
contained --rm --entrypoint /usr/local/bin/email-sender -- --version
contained --rm -- migrate up >/dev/null

port=$(free_ports 1)
contained -d -e LOCKGATE_HEALTH_LISTEN="127.0.0.1:$port" -e LOCKGATE_TOPICS_EMAIL=lockgate_image_demo -- run >/dev/null
answer=
for ((i = 0; i < wait_seconds * 5; i++)); do
  answer=$(probe "$port" /health/ready || :)
  [ "$answer" != 200 ] || break
  sleep 0.2
done
[ "$answer" = 200 ] || {
  "$containers" logs "$name" >&2
  die "the replica in it is not ready after $wait_seconds seconds"
}
"$containers" stop -t "$grace_seconds" "$name" >/dev/null
code=$("$containers" inspect --format '{{.State.ExitCode}}' "$name")
[ "$code" = 0 ] || {
  "$containers" logs "$name" >&2
  die "the replica in it ended with $code when it was asked to stop"
}
size=$("$containers" image inspect --format '{{.Size}}' "$image")
say "the image has $((size / 1000000)) MB; what is in it sent the demo's reports, became ready and stopped as nobody, on a read-only root"
