//! A run that went through everything that may happen to it, with its records in a real topic.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lockgate::delivery::{Message, Publisher};
use lockgate::kafka::KafkaTopicReader;
use lockgate::lifecycle::{Batch, BatchOutcome, Ended, Fleet};
use lockgate::postgres::{FleetSettings, PostgresFleet, PostgresRunTables};
use lockgate::verify::{Finding, Kind, Report, VerifyRequest, verify};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::{Running, SOON, World, breakers, finish, message, publish_all, quick};

/// Of the second batch: what became of some of its items.
pub const REFUSED: i64 = 201;
pub const SKIPPED: i64 = 203;
pub const VANISHED: i64 = 205;
/// Arrived although its outcome is unknown, and was redelivered.
pub const TWICE: i64 = 207;
/// Did not arrive at first, and was redelivered.
pub const LATER: i64 = 209;

/// What is sent for an item, instead of its message.
pub type Twist = fn(i64, Message) -> Vec<Message>;

pub fn as_it_is(_: i64, message: Message) -> Vec<Message> {
    vec![message]
}

pub struct Story {
    pub world: World,
    pub publisher: Arc<dyn Publisher>,
}

impl Story {
    /// A run of four batches: one delivered, one with every outcome there is, one whose first worker died, one that
    /// was split; then redelivery, and the run is completed.
    pub async fn told_with(twist: Twist) -> Self {
        let odd = (201..400).step_by(2).collect();
        let world = World::new(&[(1..=100).collect(), odd, (500..600).collect(), (700..800).collect()]).await;
        let publisher = world.publisher(&breakers()).await;
        let story = Self { world, publisher };
        let fleet = story.world.fleet();
        let first = story.world.claim(&fleet).await;
        story.send(&first, first.ids.as_slice(), twist).await;
        finish(&fleet, &first, 100, Vec::new()).await;
        story.every_outcome(&fleet, twist).await;
        // The first worker of the third batch sends ten and dies.
        let third = story.world.claim(&fleet).await;
        story.send(&third, &third.ids.as_slice()[..10], twist).await;
        story.dies(3).await;
        let third = story.world.claim(&fleet).await;
        assert_eq!((third.claim.seq, third.claim.token), (3, 2));
        story.send(&third, third.ids.as_slice(), twist).await;
        finish(&fleet, &third, 100, Vec::new()).await;
        // The worker of the fourth runs nothing else, sends five and dies: the batch is to blame.
        let fourth = story.world.claim(&fleet).await;
        assert_eq!(fleet.mark_alone(&fourth.claim).await.unwrap(), Ended::Done);
        story.send(&fourth, &fourth.ids.as_slice()[48..53], twist).await;
        story.dies(1).await;
        for seq in [5, 6] {
            let half = story.world.claim(&fleet).await;
            assert_eq!((half.claim.seq, half.ids.len()), (seq, 50));
            story.send(&half, half.ids.as_slice(), twist).await;
            finish(&fleet, &half, 50, Vec::new()).await;
        }
        let redelivery = Running::start(story.world.database(), story.publisher.clone(), &breakers(), quick());
        lockgate_tests::wait_until(SOON, "two are redelivered", async || {
            let delivered = "select count(*) from lockgate.undelivered_messages where status = 'delivered'";
            story.world.value::<i64>(delivered).await == 2
        })
        .await;
        assert!(redelivery.stop().await);
        story.world.complete().await;
        story
    }

    pub async fn told() -> Self {
        Self::told_with(as_it_is).await
    }

    async fn every_outcome(&self, fleet: &PostgresFleet, twist: Twist) {
        let batch = self.world.claim(fleet).await;
        let unsent = [REFUSED, SKIPPED, VANISHED, LATER];
        let sent: Vec<i64> = batch
            .ids
            .as_slice()
            .iter()
            .copied()
            .filter(|item| !unsent.contains(item))
            .collect();
        self.send(&batch, &sent, twist).await;
        let outcome = BatchOutcome {
            delivered: 95,
            undelivered: vec![
                self.world.undelivered(&batch, REFUSED, true),
                self.world.undelivered(&batch, TWICE, false),
                self.world.undelivered(&batch, LATER, false),
            ],
            skipped: vec![SKIPPED],
            vanished: vec![VANISHED],
        };
        let ended = fleet.finish_batch(&batch.claim, &batch.ids, &outcome).await.unwrap();
        assert_eq!(ended, Ended::Done);
    }

    async fn send(&self, batch: &Batch, items: &[i64], twist: Twist) {
        let messages = items
            .iter()
            .flat_map(|item| twist(*item, self.world.message(batch, *item)));
        publish_all(self.publisher.as_ref(), &messages.collect::<Vec<_>>()).await;
    }

    /// The message of an item of the second batch.
    pub fn again(&self, item: i64) -> Message {
        message(&self.world.topic, self.world.run, 2, 1, item)
    }

    /// Whoever holds a batch is dead, and a sweep finds out.
    async fn dies(&self, max_deaths: i16) {
        self.world
            .execute("update lockgate.run_batches set lease_until = clock_timestamp() - interval '1 s' where status = 'claimed'")
            .await;
        let settings = FleetSettings {
            replica: Uuid::new_v4(),
            lease: Duration::from_secs(60),
            max_deaths,
            stale_after: Duration::from_secs(60),
            first_redelivery: Duration::ZERO,
        };
        let swept = PostgresFleet::new(self.world.database(), settings)
            .sweep()
            .await
            .unwrap();
        assert_eq!(swept.batches + swept.split, 1);
    }

    pub async fn verified(&self) -> Report {
        let reader = Arc::new(KafkaTopicReader::new(self.world.kafka.clone()));
        let request = VerifyRequest {
            run: self.world.run,
            topics: BTreeSet::from([self.world.topic.clone()]),
            since: None,
            window: 16_000,
        };
        let tables = PostgresRunTables::new(self.world.database());
        verify(&tables, reader, request, |_| ()).await.unwrap()
    }

    /// The only kind of finding there is, and all of them.
    pub async fn faults(&self, kind: Kind) -> Vec<Finding> {
        let report = self.verified().await;
        assert!(!report.holds);
        let count = report.findings.len() as u64;
        assert_eq!(
            report.counts.into_iter().collect::<Vec<_>>(),
            [(kind, count)],
            "{:?}",
            report.findings
        );
        report.findings
    }

    pub async fn only_fault(&self, kind: Kind) -> Finding {
        let mut faults = self.faults(kind).await;
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults.remove(0)
    }

    pub async fn execute(&self, sql: &str) {
        let done = sqlx::query(AssertSqlSafe(sql))
            .execute(self.world.tables.pool())
            .await
            .unwrap();
        assert_eq!(done.rows_affected(), 1, "{sql}");
    }

    pub async fn problems(&self) -> Vec<(String, Option<i64>)> {
        self.world.problems().await
    }
}
