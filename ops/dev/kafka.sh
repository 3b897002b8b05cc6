# shellcheck shell=bash disable=SC2154
# One Kafka broker of the state directory: broker and controller in one process (KRaft), no Docker. Sourced by services.sh.

# Pinned: 4.4.0 cannot be resolved (its kafka-tools-api jar is missing), and a range would pick it.
readonly kafka_version=4.3.1
readonly slf4j_version=1.7.36

kafka_libs() { echo "$(cache_dir)/kafka-$kafka_version"; }

kafka_prepare() {
  need_basics
  need java=openjdk-17-jre-headless
  [ -d "$(kafka_libs)" ] || kafka_fetch
}

# Two at once are safe: Maven's repository is written under a lock, and the folder appears whole or not at all.
kafka_fetch() {
  need_java
  local libs work
  libs=$(kafka_libs)
  mkdir -p "$(dirname "$libs")"
  (
    exec 8>"$libs.lock"
    flock 8
    [ ! -d "$libs" ] || exit 0
    say "fetching Kafka $kafka_version from Maven Central (once, 44 MiB)"
    work=$(mktemp -d "$libs.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    kafka_pom >"$work/pom.xml"
    maven "$work" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$work/libs" &&
      mv -T "$work/libs" "$libs"
  ) || die "Maven could not fetch Kafka $kafka_version; is Maven Central within reach?"
}

kafka_pom() {
  cat <<XML
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>lockgate.dev</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$kafka_version</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>$slf4j_version</version></dependency>
  </dependencies>
</project>
XML
}

kafka_ports() { free_ports 2; }

kafka_mark() { echo "$state/kafka/server.properties"; }

kafka_pid() { daemon_pid kafka "$(kafka_mark)"; }

kafka_log() { echo "$state/kafka/log"; }

kafka_env() { echo "export KAFKA_BROKERS=127.0.0.1:$1"; }

kafka_launch() { # PORT CONTROLLER_PORT
  kafka_properties "$1" "$2" >"$state/kafka/server.properties"
  [ -e "$state/kafka/formatted" ] || kafka_format || return 1
  launch_daemon kafka "$1" java -Xms"${KAFKA_HEAP:-384m}" -Xmx"${KAFKA_HEAP:-384m}" -XX:+UseSerialGC -Djava.awt.headless=true \
    -Dorg.slf4j.simpleLogger.defaultLogLevel="${KAFKA_LOG:-warn}" -Dorg.slf4j.simpleLogger.showDateTime=true \
    -cp "$(kafka_libs)/*" kafka.Kafka "$(kafka_mark)"
}

# A random cluster id may begin with '-', which the tool would take for an option; an 'A' in front rules that out.
kafka_format() {
  local id
  id=A$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c 2-22)
  rm -rf "$state/kafka/data"
  java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
    -cp "$(kafka_libs)/*" kafka.tools.StorageTool format -t "$id" -c "$state/kafka/server.properties" \
    ${KAFKA_SCRAM:+--add-scram "SCRAM-SHA-512=[name=${KAFKA_SCRAM%%:*},password=${KAFKA_SCRAM#*:}]"} \
    >"$state/kafka/format.log" 2>&1 || {
    cat "$state/kafka/format.log" >&2
    return 1
  }
  touch "$state/kafka/formatted"
}

# A broker that stands still for longer than its session is shut out, and then answers everybody that there are no brokers: no
# busy machine must do that to those who share it. One that was killed is let back in once its session is over, by the time it
# is started with: who kills it asks for a short one. Every internal topic has one partition.
kafka_properties() { # PORT CONTROLLER_PORT
  cat <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$2
listeners=PLAINTEXT://127.0.0.1:$1,CONTROLLER://127.0.0.1:$2${KAFKA_LISTENER:+,$KAFKA_LISTENER}
advertised.listeners=PLAINTEXT://127.0.0.1:$1${KAFKA_LISTENER:+,$KAFKA_LISTENER}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
log.dirs=$state/kafka/data
num.partitions=12
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=${KAFKA_SESSION_MS:-30000}
broker.heartbeat.interval.ms=500
num.network.threads=2
num.io.threads=4
log.segment.bytes=134217728
log.cleaner.dedupe.buffer.size=2097152
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
${KAFKA_PROPERTIES-}
PROPERTIES
}

kafka_halt() { halt_daemon kafka "$(kafka_mark)" "$1"; } # stop|kill
