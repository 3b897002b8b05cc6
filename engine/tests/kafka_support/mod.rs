//! What the tests against a broker share: where it is, topics of their own, a sink that counts.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use lockgate::delivery::{Headers, Message, Outcome, OutcomeSink, Publisher, Rejected, Ticket};
use lockgate::kafka::{KafkaConfig, KafkaPublisher, create_topic};
use tokio::sync::Notify;

/// The script that starts real servers.
const SERVICES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ops/dev/services.sh");

/// How long anything may take before a test is red instead of hanging.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the services script with its state in a folder, or in its usual place.
pub fn services(state: Option<&Path>, words: &[&str]) -> String {
    let mut command = Command::new(SERVICES);
    command.args(words);
    if let Some(state) = state {
        command.env("LOCKGATE_SERVICES_DIR", state);
    }
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot run {SERVICES}: {error}"));
    assert!(
        output.status.success(),
        "services.sh {words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The address in what `services.sh env` prints.
pub fn brokers_in(env: &str) -> String {
    let line = env.lines().find_map(|line| line.strip_prefix("export KAFKA_BROKERS="));
    line.unwrap_or_else(|| panic!("no KAFKA_BROKERS in {env:?}"))
        .trim_matches('"')
        .to_owned()
}

/// The broker of the tests: the one that is named, or one started for them.
pub fn brokers() -> &'static str {
    static BROKERS: OnceLock<String> = OnceLock::new();
    BROKERS.get_or_init(|| {
        std::env::var("LOCKGATE_TEST_KAFKA_BROKERS").unwrap_or_else(|_| {
            services(None, &["up", "kafka"]);
            brokers_in(&services(None, &["env"]))
        })
    })
}

/// The configuration for that broker.
pub fn config() -> KafkaConfig {
    KafkaConfig::new(brokers())
}

/// A topic of this test's own.
pub async fn topic(partitions: i32, settings: &[(&str, &str)]) -> Arc<str> {
    let name = format!("test-{}", uuid::Uuid::now_v7());
    assert!(
        create_topic(&config(), &name, partitions, settings).await.unwrap(),
        "{name} was there"
    );
    all_know(&name, partitions).await;
    name.into()
}

/// Waits until the brokers tell of a topic: they answer that it was made, and hear of it themselves a moment later.
pub async fn all_know(name: &str, partitions: i32) {
    let (asking, until) = (publisher(config()), Instant::now() + PATIENCE);
    loop {
        let known = asking.check_topic(name).await;
        if known
            .as_ref()
            .is_ok_and(|topic| topic.partitions == usize::try_from(partitions).unwrap())
        {
            return;
        }
        assert!(Instant::now() < until, "nobody tells of {name}: {known:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn publisher(config: KafkaConfig) -> KafkaPublisher {
    KafkaPublisher::start(config, Arc::new(())).unwrap()
}

pub fn message(topic: &Arc<str>, key: &str, payload: impl Into<Vec<u8>>) -> Message {
    Message {
        topic: Arc::clone(topic),
        key: Some(key.into()),
        payload: payload.into(),
        headers: Headers::default(),
    }
}

/// Keeps the outcome of each message and complains of one that is settled twice.
#[derive(Default)]
pub struct Sink {
    state: Mutex<SinkState>,
    changed: Notify,
}

#[derive(Default)]
struct SinkState {
    outcomes: Vec<Option<Outcome>>,
    settled: usize,
    settled_twice: usize,
}

impl Sink {
    pub fn new() -> Arc<Sink> {
        Arc::default()
    }

    pub fn ticket(self: &Arc<Sink>, index: usize) -> Ticket {
        Ticket {
            sink: Arc::clone(self) as Arc<dyn OutcomeSink>,
            index: u32::try_from(index).unwrap(),
        }
    }

    pub fn settled(&self) -> usize {
        self.state.lock().unwrap().settled
    }

    /// Waits until so many are settled and returns all outcomes by index.
    pub async fn outcomes(&self, count: usize) -> Vec<Outcome> {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                if self.settled() >= count {
                    return;
                }
                changed.await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(
            waited.is_ok(),
            "{} of {count} settled after {PATIENCE:?}",
            self.settled()
        );
        let state = self.state.lock().unwrap();
        assert_eq!(
            (state.settled, state.settled_twice),
            (count, 0),
            "settled, settled twice"
        );
        state.outcomes.iter().flatten().cloned().collect()
    }
}

impl OutcomeSink for Sink {
    fn settle(&self, index: u32, outcome: Outcome) {
        let mut state = self.state.lock().unwrap();
        let index = index as usize;
        if state.outcomes.len() <= index {
            state.outcomes.resize(index + 1, None);
        }
        match state.outcomes[index].replace(outcome) {
            None => state.settled += 1,
            Some(_) => state.settled_twice += 1,
        }
        drop(state);
        self.changed.notify_one();
    }
}

/// Offers a message until it is taken, waiting for room.
pub async fn offer(publisher: &KafkaPublisher, message: &Message, sink: &Arc<Sink>, index: usize) {
    let offering = async {
        loop {
            match publisher.publish(message, sink.ticket(index)) {
                Ok(()) => return,
                Err(Rejected::Full) => publisher.capacity().await,
                Err(other) => panic!("message {index}: {other:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, offering)
        .await
        .unwrap_or_else(|_| panic!("no room for message {index}"));
}

pub fn delivered(outcomes: &[Outcome]) -> usize {
    outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Outcome::Delivered { .. }))
        .count()
}

/// The codes of those that were not delivered.
pub fn codes(outcomes: &[Outcome]) -> Vec<&'static str> {
    let code = |outcome: &Outcome| match outcome {
        Outcome::Delivered { .. } => None,
        Outcome::Refused(failure) | Outcome::Unknown(failure) => Some(failure.code),
    };
    outcomes.iter().filter_map(code).collect()
}
