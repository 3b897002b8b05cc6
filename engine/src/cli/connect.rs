//! Reaching the servers: at once for a command, with patience for a replica.

use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Exit, Failure};
use crate::config::Config;
use crate::delivery::{Publisher, TopicError};
use crate::health::{Health, Part};
use crate::postgres::{DatabaseSettings, PoolerVerdict, ServerVersion, probe, test_pooler};
use crate::telemetry::say;

/// One try takes no longer, so that a frozen server is noticed.
const ONE_TRY: Duration = Duration::from_secs(5);
/// Long enough for a healthy server, however short the wait.
const SHORTEST_TRY: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Whether the database answers within so long.
pub(super) async fn reach(settings: &DatabaseSettings, within: Duration) -> Result<ServerVersion, Failure> {
    Ok(probe(settings, within).await?)
}

/// Bounds a wait: so long, or for ever.
pub(super) struct Patience {
    until: Option<Instant>,
    pause: Duration,
    stop: CancellationToken,
    /// What the last line said, so that each change of state is one line.
    said: String,
    health: Health,
}

impl Patience {
    pub(super) fn new(wait: Option<Duration>, health: Health, stop: CancellationToken) -> Self {
        Self {
            until: wait.map(|wait| Instant::now() + wait),
            pause: FIRST_PAUSE,
            stop,
            said: String::new(),
            health,
        }
    }

    /// How long one try may take, so that no try goes on after the wait is over.
    fn one_try(&self) -> Duration {
        let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        left.map_or(ONE_TRY, |left| left.clamp(SHORTEST_TRY, ONE_TRY))
    }

    /// Says a change of state on stderr, once, and to whoever asks for the health.
    fn say(&mut self, line: String) {
        self.health.say(Part::Replica, Err::<&str, _>(line.as_str()));
        if self.said != line {
            say(&line);
            self.said = line;
        }
    }

    /// Waits before the next try. False: the time is over, or somebody asked to stop.
    async fn wait(&mut self) -> bool {
        let jitter = rand::rng().random_range(0.5..1.0);
        let now = Instant::now();
        let left = self
            .until
            .map_or(LONGEST_PAUSE, |until| until.saturating_duration_since(now));
        if left.is_zero() {
            return false;
        }
        let pause = self.pause.mul_f64(jitter).min(left);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            () = self.stop.cancelled() => false,
        }
    }
}

/// Waits until Postgres answers and nothing unsafe stands before it.
pub(super) async fn wait_for_postgres(settings: &DatabaseSettings, patience: &mut Patience) -> Result<(), Failure> {
    loop {
        match probe(settings, patience.one_try()).await {
            Ok(version) if version.read_only => {
                // A standby may be promoted, a full server may be given room.
                patience.say(format!(
                    "waiting for Postgres {} to take writes: it is read-only",
                    version.version
                ));
                if !patience.wait().await {
                    let failure = Failure::new(Exit::Unreachable, "Postgres answers, but it is read-only");
                    return Err(failure.hint("name the primary in DATABASE_URL"));
                }
            }
            Ok(version) => {
                patience.say(format!("Postgres {} answers", version.version));
                break;
            }
            Err(error) if error.may_pass() => {
                patience.say(format!("waiting for Postgres: {error}"));
                if !patience.wait().await {
                    return Err(error.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    let verdict = look_for_pooler(settings, patience).await?;
    if verdict.is_safe() {
        return Ok(());
    }
    let what = format!("{} would mix up answers", verdict.evidence());
    Err(Failure::new(Exit::Conflict, what).hint(verdict.fix()))
}

/// What stands before Postgres. A server that answered may take its time for the next answer.
async fn look_for_pooler(settings: &DatabaseSettings, patience: &mut Patience) -> Result<PoolerVerdict, Failure> {
    loop {
        match test_pooler(settings, ONE_TRY).await {
            Err(error) if error.may_pass() => {
                patience.say(format!("waiting for Postgres: {error}"));
                if !patience.wait().await {
                    return Err(error.into());
                }
            }
            tested => return Ok(tested?),
        }
    }
}

/// Waits until the brokers answer for every configured topic.
pub(super) async fn wait_for_kafka(
    publisher: &dyn Publisher,
    config: &Config,
    patience: &mut Patience,
) -> Result<(), Failure> {
    for topic in config.topics.values() {
        loop {
            let asked = tokio::time::timeout(patience.one_try(), publisher.check_topic(topic)).await;
            let answer = asked.unwrap_or_else(|_| {
                Err(TopicError::Unreachable {
                    detail: publisher.complaint().unwrap_or_else(|| "no answer in time".to_owned()),
                })
            });
            match answer {
                Ok(info) => {
                    patience.say(format!("topic {topic} answers, {} partitions", info.partitions));
                    break;
                }
                Err(error @ TopicError::Unreachable { .. }) => {
                    patience.say(format!("waiting for Kafka: {error}"));
                    if !patience.wait().await {
                        return Err(topic_failure(&error));
                    }
                }
                Err(error) => return Err(topic_failure(&error)),
            }
        }
    }
    Ok(())
}

/// What a topic that cannot be used means for a command.
pub(super) fn topic_failure(error: &TopicError) -> Failure {
    let exit = match error {
        TopicError::Missing { .. } => Exit::Conflict,
        TopicError::NotAuthorised { .. } | TopicError::Unreachable { .. } => Exit::Unreachable,
    };
    Failure::new(exit, error.to_string()).hint(topic_fix(error))
}

/// What to do about it.
pub(super) fn topic_fix(error: &TopicError) -> String {
    match error {
        TopicError::Missing { topic } => {
            format!("create topic {topic} with the partitions you need, or name another one in [topics]")
        }
        TopicError::NotAuthorised { topic, .. } => {
            format!("allow this client to describe and write topic {topic}; check kafka.properties")
        }
        TopicError::Unreachable { .. } => {
            "check that the brokers run, that KAFKA_BROKERS names them and that they advertise an address you can reach"
                .to_owned()
        }
    }
}
