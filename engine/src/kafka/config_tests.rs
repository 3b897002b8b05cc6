//! What is refused, what passes, and that secrets stay out of texts.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

fn config() -> KafkaConfig {
    KafkaConfig::new("127.0.0.1:9092")
}

#[test]
fn properties_that_break_a_promise_are_refused_by_name() {
    let refused = [
        ("bootstrap.servers", "x:1"),
        ("metadata.broker.list", "x:1"),
        ("client.id", "x"),
        ("group.id", "x"),
        ("enable.auto.commit", "true"),
        ("enable.auto.offset.store", "true"),
        ("enable.partition.eof", "true"),
        ("auto.offset.reset", "error"),
        ("enable.idempotence", "false"),
        ("acks", "1"),
        ("acks", "0"),
        ("request.required.acks", "1"),
        ("partitioner", "consistent_random"),
        ("message.timeout.ms", "30001"),
        ("message.timeout.ms", "0"),
        ("delivery.timeout.ms", "60000"),
        ("delivery.timeout.ms", "soon"),
        ("retries", "0"),
        ("message.send.max.retries", "0"),
        ("delivery.report.only.error", "true"),
        ("enable.gapless.guarantee", "true"),
        ("queue.buffering.max.messages", "0"),
        ("queue.buffering.max.kbytes", "0"),
        ("transactional.id", "t"),
        ("allow.auto.create.topics", "true"),
        ("test.mock.num.brokers", "3"),
        ("plugin.library.paths", "x.so"),
        ("debug", "all"),
        ("debug", "broker, security"),
        ("debug", "conf"),
        ("debug", "protocol"),
    ];
    for (key, value) in refused {
        match config().with(key, value).validate() {
            Err(KafkaConfigError::Refused { key: named, why }) => {
                assert_eq!(named, key);
                assert!(why.len() > 10, "{key}: {why}");
            }
            other => panic!("{key}={value} gave {other:?}"),
        }
    }
}

#[test]
fn properties_that_keep_the_promises_pass() {
    let passing = [
        ("enable.idempotence", "true"),
        ("acks", "all"),
        ("acks", "-1"),
        ("partitioner", "murmur2_random"),
        ("message.timeout.ms", "30000"),
        ("delivery.timeout.ms", "1000"),
        ("compression.type", "lz4"),
        ("linger.ms", "20"),
        ("queue.buffering.max.messages", "10"),
        ("retries", "5"),
        ("debug", "broker,topic"),
        ("enable.auto.commit", "false"),
    ];
    for (key, value) in passing {
        assert_eq!(config().with(key, value).validate(), Ok(()), "{key}={value}");
    }
}

#[test]
fn the_promises_are_in_both_producers() {
    let user = config().with("linger.ms", "50").with("acks", "-1");
    for made in [user.producer(), user.lone_producer()] {
        assert_eq!(made.get("enable.idempotence"), Some("true"));
        assert_eq!(made.get("acks"), Some("all"));
        assert_eq!(made.get("partitioner"), Some("murmur2_random"));
        assert_eq!(made.get("message.timeout.ms"), Some("30000"));
        assert_eq!(made.get("allow.auto.create.topics"), Some("false"));
    }
    assert_eq!(user.producer().get("linger.ms"), Some("50"));
    assert_eq!(user.lone_producer().get("batch.num.messages"), Some("1"));
    assert_eq!(
        config()
            .with("message.timeout.ms", "900")
            .producer()
            .get("message.timeout.ms"),
        Some("900")
    );
}

#[test]
fn unknown_properties_and_values_are_named_without_the_value() {
    let error = config().with("sasl.pasword", "hunter2").validate().unwrap_err();
    assert!(error.to_string().contains("sasl.pasword"), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
    let error = config().with("linger.ms", "hunter2").validate().unwrap_err();
    assert!(error.to_string().contains("linger.ms"), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
}

#[test]
fn debug_shows_names_and_never_values() {
    let shown = format!(
        "{:?}",
        config()
            .with("sasl.password", "hunter2")
            .with("ssl.key.pem", "-----BEGIN")
    );
    assert!(
        shown.contains("sasl.password") && shown.contains("127.0.0.1:9092"),
        "{shown}"
    );
    assert!(!shown.contains("hunter2") && !shown.contains("BEGIN"), "{shown}");
}

#[test]
fn brokers_and_timeout_are_checked() {
    assert_eq!(KafkaConfig::new(" , ").validate(), Err(KafkaConfigError::NoBrokers));
    let mut slow = config();
    slow.message_timeout = Duration::ZERO;
    assert_eq!(
        slow.validate(),
        Err(KafkaConfigError::MessageTimeout { given: Duration::ZERO })
    );
}
