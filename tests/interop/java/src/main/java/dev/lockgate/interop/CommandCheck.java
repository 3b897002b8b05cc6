package dev.lockgate.interop;

import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.zip.CRC32C;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Reads what `daily-task-reports` sent, as a Java service would, and holds every record to what is documented. */
public final class CommandCheck {
  private static final Duration PATIENCE = Duration.ofSeconds(60);
  private static final ObjectMapper JSON =
      new ObjectMapper()
          .enable(DeserializationFeature.FAIL_ON_MISSING_CREATOR_PROPERTIES)
          .enable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
          .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS);

  private final List<String> problems = new ArrayList<>();
  private final Set<UUID> messages = new HashSet<>();
  private final Set<Long> users = new HashSet<>();
  private final Set<Integer> partitions = new HashSet<>();

  /** Arguments: brokers, topic, how many messages there are. */
  public static void main(String[] arguments) {
    var check = new CommandCheck();
    int wanted = Integer.parseInt(arguments[2]);
    check.read(arguments[0], arguments[1], wanted);
    check.hold(check.messages.size() == wanted, "there are " + check.messages.size() + " messages, not " + wanted);
    check.hold(check.users.size() == wanted, "there are " + check.users.size() + " users, not " + wanted);
    check.hold(check.partitions.size() > 1, "all keys are in one partition");
    check.problems.stream().limit(20).forEach(System.err::println);
    System.out.printf(
        "interop: %d messages in %d partitions read by Java, %d problems%n",
        check.messages.size(), check.partitions.size(), check.problems.size());
    System.exit(check.problems.isEmpty() ? 0 : 1);
  }

  private void read(String brokers, String topic, int wanted) {
    Map<String, Object> settings =
        Map.of(
            "bootstrap.servers", brokers,
            "group.id", "interop-" + UUID.randomUUID(),
            "enable.auto.commit", "false",
            "auto.offset.reset", "earliest");
    var bytes = new ByteArrayDeserializer();
    try (var consumer = new KafkaConsumer<byte[], byte[]>(settings, bytes, bytes)) {
      consumer.subscribe(List.of(topic));
      Instant end = Instant.now().plus(PATIENCE);
      while (messages.size() < wanted && Instant.now().isBefore(end)) {
        for (var record : consumer.poll(Duration.ofMillis(500))) {
          // The demo registers users too; their welcomes belong to no run.
          if (record.headers().lastHeader("run-id") == null) {
            continue;
          }
          // The rule for consumers: a message-id that was seen is passed over.
          if (messages.add(messageId(record))) {
            check(record, consumer.partitionsFor(topic).size());
          }
        }
        consumer.commitSync();
      }
    }
  }

  private void check(ConsumerRecord<byte[], byte[]> record, int partitionCount) {
    String at = record.partition() + ":" + record.offset();
    EmailTriggerCommand command;
    try {
      command = JSON.readValue(record.value(), EmailTriggerCommand.class);
    } catch (Exception error) {
      hold(false, at + ": its value is not the documented JSON: " + error.getClass().getSimpleName());
      return;
    }
    hold(command.recipientEmail().contains("@"), at + ": recipientEmail");
    hold(command.templateId().equals("daily-task-report"), at + ": templateId");
    hold(command.locale().matches("[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*"), at + ": locale");
    for (String field : List.of("name", "day", "done", "open")) {
      hold(command.templateContext().hasNonNull(field), at + ": templateContext." + field);
    }
    users.add(command.userId());
    hold(messageId(record).version() == 5, at + ": message-id of an item is not a UUIDv5");
    hold(header(record, "correlation-id").equals(command.correlationId()), at + ": correlation-id");
    hold(UUID.fromString(header(record, "run-id")).version() == 7, at + ": run-id");
    hold(Integer.parseInt(header(record, "batch-seq")) >= 1, at + ": batch-seq");
    hold(Long.parseLong(header(record, "claim-token")) >= 1, at + ": claim-token");
    hold(header(record, "crc32c").equals(crc32c(record.value())), at + ": crc32c");
    hold(new String(record.key(), StandardCharsets.US_ASCII).equals(command.userId().toString()), at + ": key");
    // Where Java's own producer would have put it.
    int partition = BuiltInPartitioner.partitionForKey(record.key(), partitionCount);
    hold(partition == record.partition(), at + ": Java would choose partition " + partition);
    partitions.add(record.partition());
  }

  private static UUID messageId(ConsumerRecord<byte[], byte[]> record) {
    return UUID.fromString(header(record, "message-id"));
  }

  private static String header(ConsumerRecord<byte[], byte[]> record, String name) {
    Header header = record.headers().lastHeader(name);
    if (header == null) {
      throw new IllegalStateException("no header " + name + " at " + record.partition() + ":" + record.offset());
    }
    return new String(header.value(), StandardCharsets.UTF_8);
  }

  private static String crc32c(byte[] value) {
    var checksum = new CRC32C();
    checksum.update(value);
    return String.format("%08x", checksum.getValue());
  }

  private void hold(boolean holds, String problem) {
    if (!holds) {
      problems.add(problem);
    }
  }
}
