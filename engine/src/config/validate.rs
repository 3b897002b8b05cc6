//! What must hold between values, each with its reason.

use std::fmt;
use std::time::Duration;

use super::setting::Setting;
use super::{Config, ConfigError, Secret};
use crate::cli::GRACE;
use crate::delivery::is_topic_name;
use crate::telemetry;

/// A value that cannot work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// What is wrong with it.
    pub wrong: String,
    /// What to do.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}: {}; {}", self.key, self.value, self.wrong, self.fix)
    }
}

/// Of a token set by hand: as many characters as 64 random bits have in hexadecimal.
const SHORTEST_TOKEN: usize = 16;

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn unless(&mut self, holds: bool, key: &str, value: impl Setting, wrong: String, fix: String) {
        if !holds {
            self.0.push(Problem {
                key: key.to_owned(),
                value: value.show(),
                wrong,
                fix,
            });
        }
    }

    fn within(&mut self, key: &str, value: u32, least: u32, most: u32) {
        let (wrong, fix) = ("out of range".to_owned(), format!("set it from {least} to {most}"));
        self.unless((least..=most).contains(&value), key, value, wrong, fix);
    }

    fn lasts(&mut self, key: &str, value: Duration, least: Duration) {
        let (wrong, fix) = ("too short".to_owned(), format!("set it to {} or more", least.show()));
        self.unless(value >= least, key, value, wrong, fix);
    }
}

impl Config {
    /// Checks what must hold between values.
    ///
    /// # Errors
    /// Every value that cannot work, with what to do.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut problems = Problems::default();
        self.check_leases(&mut problems);
        self.check_sizes(&mut problems);
        self.check_times(&mut problems);
        self.check_topics(&mut problems);
        self.check_api(&mut problems);
        self.check_telemetry(&mut problems);
        if problems.0.is_empty() {
            Ok(())
        } else {
            Err(ConfigError::Invalid(problems.0))
        }
    }

    fn check_leases(&self, problems: &mut Problems) {
        let lease = self.lease.duration;
        problems.lasts("lease.duration", lease, Duration::from_millis(500));
        // A quarter of the lease is left to commit what the last report said.
        let most = lease * 3 / 4;
        problems.unless(
            self.kafka.message_timeout < most,
            "kafka.message_timeout",
            self.kafka.message_timeout,
            format!("a message may outlive its lease of {}", lease.show()),
            format!("set it below {} or raise lease.duration", most.show()),
        );
        problems.unless(
            self.lease.renew <= lease / 3,
            "lease.renew",
            self.lease.renew,
            format!("two missed renewals lose a lease of {}", lease.show()),
            format!("set it to {} or less, or raise lease.duration", (lease / 3).show()),
        );
        problems.unless(
            self.lease.sweep <= lease,
            "lease.sweep",
            self.lease.sweep,
            format!("stale leases of {} would wait long for their recovery", lease.show()),
            format!("set it to {} or less", lease.show()),
        );
        problems.unless(
            self.leader.renew <= self.leader.lease / 3,
            "leader.renew",
            self.leader.renew,
            format!("two missed renewals lose leadership of {}", self.leader.lease.show()),
            format!(
                "set it to {} or less, or raise leader.lease",
                (self.leader.lease / 3).show()
            ),
        );
        problems.unless(
            self.database.idle_in_transaction < lease,
            "database.idle_in_transaction",
            self.database.idle_in_transaction,
            format!(
                "a frozen replica would hold its locks beyond a lease of {}",
                lease.show()
            ),
            format!("set it below {}", lease.show()),
        );
    }

    fn check_sizes(&self, problems: &mut Problems) {
        problems.within("worker.batch_size", self.worker.batch_size, 1, 10_000);
        problems.within("worker.batches", self.worker.batches, 1, 1_024);
        problems.within("workflows.in_flight", self.workflows.in_flight, 1, 100_000);
        problems.within(
            "workflows.max_result",
            self.workflows.max_result,
            1_024,
            16 * 1024 * 1024,
        );
        problems.within("worker.plan_ahead", self.worker.plan_ahead, 1, 100_000);
        problems.within("kafka.window", self.kafka.window, 1, 1_000_000);
        problems.within("lease.max_deaths", self.lease.max_deaths, 1, 100);
        problems.within("database.max_connections", self.database.max_connections, 2, 1_000);
        problems.within("redelivery.page", self.redelivery.page, 1, 10_000);
        problems.within("redelivery.max_attempts", self.redelivery.max_attempts, 1, 10_000);
        problems.within("direct.queue", self.direct.queue, 1, 4_000_000);
        problems.within("direct.spill", self.direct.spill, 1, 4_000_000);
        problems.within("direct.window", self.direct.window, 1, 1_000_000);
        problems.within("outbox.page", self.outbox.page, 1, 10_000);
        problems.within("outbox.lanes", self.outbox.lanes, 1, 16);
        problems.within("retention.page", self.retention.page, 1, 10_000);
    }

    fn check_times(&self, problems: &mut Problems) {
        let moment = Duration::from_millis(10);
        problems.lasts("lease.renew", self.lease.renew, moment);
        problems.lasts("lease.sweep", self.lease.sweep, moment);
        problems.lasts("leader.lease", self.leader.lease, Duration::from_millis(500));
        problems.lasts("leader.renew", self.leader.renew, moment);
        problems.lasts("worker.poll", self.worker.poll, moment);
        problems.lasts("database.deadline", self.database.deadline, Duration::from_millis(100));
        problems.lasts(
            "database.idle_in_transaction",
            self.database.idle_in_transaction,
            moment,
        );
        problems.lasts(
            "kafka.message_timeout",
            self.kafka.message_timeout,
            Duration::from_millis(100),
        );
        problems.lasts("outbox.poll", self.outbox.poll, moment);
        problems.lasts("redelivery.first_delay", self.redelivery.first_delay, moment);
        problems.unless(
            self.redelivery.first_delay <= self.redelivery.max_delay,
            "redelivery.first_delay",
            self.redelivery.first_delay,
            "longer than redelivery.max_delay".to_owned(),
            format!("set it to {} or less", self.redelivery.max_delay.show()),
        );
        problems.lasts("health.every", self.health.every, Duration::from_millis(100));
        problems.lasts("direct.patience", self.direct.patience, Duration::from_millis(50));
        let minute = Duration::from_secs(60);
        problems.lasts("drain.deadline", self.drain.deadline, Duration::from_millis(100));
        problems.lasts("retention.runs", self.retention.runs, minute);
        problems.lasts("retention.transitions", self.retention.transitions, minute);
        problems.lasts("retention.undelivered", self.retention.undelivered, minute);
        problems.lasts("retention.replicas", self.retention.replicas, minute);
        problems.lasts("retention.measures", self.retention.measures, minute);
        problems.lasts("retention.inbox", self.retention.inbox, self.last_repeat());
    }

    /// The age up to which a message may come again by itself: dead holders of its batch, then redelivery to its last
    /// attempt. Consumers that forget earlier would give it its effect twice.
    fn last_repeat(&self) -> Duration {
        let holders = (self.lease.duration + self.lease.sweep) * self.lease.max_deaths;
        holders + (self.redelivery.max_delay + self.lease.duration) * self.redelivery.max_attempts
    }

    fn check_api(&self, problems: &mut Problems) {
        problems.within("api.connections", self.api.connections, 1, 65_536);
        problems.within("api.requests_per_s", self.api.requests_per_s, 1, 1_000_000);
        problems.within("api.bulk_requests", self.api.bulk_requests, 1, 1_024);
        let long_enough = |token: &Secret| token.expose().len() >= SHORTEST_TOKEN;
        problems.unless(
            self.api.token.as_ref().is_none_or(long_enough),
            "api.token",
            self.api.token.clone(),
            "can be guessed".to_owned(),
            format!("use {SHORTEST_TOKEN} random characters or more, such as `openssl rand -hex 32` prints"),
        );
    }

    fn check_telemetry(&self, problems: &mut Problems) {
        problems.unless(
            telemetry::share(&self.telemetry.sample).is_some(),
            "telemetry.sample",
            self.telemetry.sample.clone(),
            "not a share".to_owned(),
            "set it to auto or from 0 to 1, such as 0.1".to_owned(),
        );
        problems.lasts(
            "telemetry.interval",
            self.telemetry.interval,
            Duration::from_millis(100),
        );
        problems.unless(
            self.telemetry.flush <= GRACE,
            "telemetry.flush",
            self.telemetry.flush,
            "a stop would outlast what is waited for it".to_owned(),
            format!("set it to {} or less", GRACE.show()),
        );
    }

    fn check_topics(&self, problems: &mut Problems) {
        for (kind, topic) in &self.topics {
            problems.unless(
                is_topic_name(topic),
                &format!("topics.{kind}"),
                Some(topic.clone()),
                "not a topic name".to_owned(),
                "use 1 to 249 of a–z, A–Z, 0–9, dot, underscore and hyphen".to_owned(),
            );
        }
    }
}
