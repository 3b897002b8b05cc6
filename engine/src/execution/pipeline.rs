//! One batch (R40.3): read a page, make its messages, publish them, wait for their outcomes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch_told::BatchTold;
use super::book::{Fate, HeldBatch};
use super::executor::Shared;
use super::fan_outs::KnownFanOut;
use super::send::{Envelope, Unfit, storable};
use super::tally::Tallies;
use super::tracker::{BatchTracker, NotDelivered};
use crate::delivery::{Failure, Message, Outcome, OutcomeSink, Probe, Rejected, Ticket};
use crate::lifecycle::{Batch, BatchOutcome, UndeliveredItem};
use crate::telemetry::closed::{SendError, SendPath};
use crate::telemetry::{meters, within};
use crate::workflow::Made;

/// Items read and made at once; bounds memory whatever the size of a batch.
const PAGE: usize = 1000;
/// Places taken in the window at once.
const STRIDE: usize = 125;
/// How often a waiting sender looks whether its topic still goes.
const LOOK: Duration = Duration::from_millis(100);
/// What a source may go on reading for when its batch is to stop.
const READ_ON: Duration = Duration::from_secs(1);

/// How work on a batch ended.
pub(crate) enum BatchEnd {
    /// Every item has its outcome.
    Settled(BatchOutcome),
    /// Not now: give it back.
    HandBack {
        /// Not claimed again before this long from now.
        delay: Duration,
        /// Why, for the audit.
        reason: &'static str,
    },
    /// The source cannot be read, again and again: the run fails.
    SourceBroken(String),
    /// Somebody took over, or may have.
    Lost,
}

/// Why sending stopped before the end of a batch.
enum Stop {
    Fate(Fate),
    Later { delay: Duration, reason: &'static str },
    Source(anyhow::Error),
}

/// A message that was offered; kept until its outcome is known, for the row it may need.
struct Offered {
    item: i64,
    index: u32,
    command_type: std::borrow::Cow<'static, str>,
    message: Message,
    /// The place of its topic in the tallies.
    topic_at: usize,
}

pub(crate) struct Pipeline<'a> {
    shared: &'a Shared,
    batch: &'a Batch,
    held: &'a HeldBatch,
    known: &'a KnownFanOut,
    probes: &'a [(String, Probe)],
    envelope: Envelope,
    tracker: Arc<BatchTracker>,
    offered: Vec<Offered>,
    outcome: BatchOutcome,
    places: usize,
    sent: usize,
    tallies: Tallies,
    started: Instant,
    first_offer: Option<Instant>,
    told: &'a mut BatchTold,
}

impl<'a> Pipeline<'a> {
    pub(crate) fn new(
        shared: &'a Shared,
        batch: &'a Batch,
        held: &'a HeldBatch,
        known: &'a KnownFanOut,
        probes: &'a [(String, Probe)],
        told: &'a mut BatchTold,
    ) -> Self {
        let envelope = Envelope::new(batch, known.run.origin_id, told.context(), &shared.settings.topics);
        Self {
            shared,
            batch,
            held,
            known,
            probes,
            envelope,
            tracker: held.tracker.clone(),
            offered: Vec::with_capacity(batch.ids.len()),
            outcome: BatchOutcome::default(),
            places: 0,
            sent: 0,
            tallies: Tallies::default(),
            started: Instant::now() + batch.pace_wait,
            first_offer: None,
            told,
        }
    }

    /// Works on the batch to its end; also answers what became of its messages by topic.
    pub(crate) async fn run(mut self) -> (BatchEnd, Tallies) {
        let stopped = self.send_all().await.err();
        self.told.event("sent");
        // Whatever comes of the batch, what was sent gets its outcome first: the publisher bounds that time.
        if !self.wait_settled().await {
            return (BatchEnd::Lost, self.tallies);
        }
        self.told.event("settled");
        self.tracker.give_back(self.places);
        self.feed_breakers();
        self.tell_sent();
        let tallies = std::mem::take(&mut self.tallies);
        (self.end(stopped), tallies)
    }

    fn end(mut self, stopped: Option<Stop>) -> BatchEnd {
        let failures = self.not_delivered();
        match stopped {
            Some(Stop::Fate(Fate::Lost)) => BatchEnd::Lost,
            Some(Stop::Fate(Fate::Doubted)) => BatchEnd::HandBack {
                delay: Duration::ZERO,
                reason: "lease in doubt",
            },
            Some(Stop::Fate(_)) => BatchEnd::HandBack {
                delay: Duration::ZERO,
                reason: "stopped",
            },
            Some(Stop::Later { delay, reason }) => BatchEnd::HandBack { delay, reason },
            Some(Stop::Source(error)) => source_failed(self.known, self.batch, &error),
            None if failures
                .iter()
                .any(|item| !item.refused && self.shared.breakers.is_in_trouble(&item.topic)) =>
            {
                // The topic is in trouble, not these items: they stay in the batch instead of filling the table. Also
                // those of a probe: its breaker is half-open until it has ended.
                BatchEnd::HandBack {
                    delay: Duration::from_secs(1),
                    reason: "breaker open",
                }
            }
            None => {
                self.outcome.delivered = self.tracker.delivered();
                self.outcome.undelivered.extend(failures);
                BatchEnd::Settled(self.outcome)
            }
        }
    }

    async fn send_all(&mut self) -> Result<(), Stop> {
        let ids = self.batch.ids.as_slice();
        for (page, page_ids) in ids.chunks(PAGE).enumerate() {
            let base = page * PAGE;
            let wanted: Vec<i64> = page_ids
                .iter()
                .enumerate()
                .filter(|(at, _)| !self.tracker.is_delivered(base + at))
                .map(|(_, id)| *id)
                .collect();
            if wanted.is_empty() {
                continue;
            }
            self.look()?;
            let began = Instant::now();
            let making = self.known.fan_out.make(&self.shared.resources, &wanted);
            let made = tokio::select! {
                made = within(self.told.context(), making) => made,
                stop = self.left() => return Err(stop),
            };
            self.told.read(wanted.len(), began, made.is_err());
            let made = made.map_err(Stop::Source)?;
            self.known.source_worked();
            self.send_page(base, page_ids, &wanted, made).await?;
        }
        Ok(())
    }

    async fn send_page(
        &mut self,
        base: usize,
        page_ids: &[i64],
        wanted: &[i64],
        made: Vec<(i64, Made)>,
    ) -> Result<(), Stop> {
        let mut wanted = wanted.iter();
        let mut at = 0;
        for (item, made) in made {
            // Both lists ascend: what was wanted and is passed over has vanished.
            for id in wanted.by_ref() {
                if *id == item {
                    break;
                }
                self.outcome.vanished.push(*id);
            }
            while page_ids[at] != item {
                at += 1;
            }
            let index = (base + at) as u32;
            match made {
                Made::Skipped => self.outcome.skipped.push(item),
                Made::Failed { code, detail } => self.refuse(item, "unknown", "unknown", code, &detail),
                Made::Command(command) => {
                    let command_type = command.command_type.clone();
                    match self.envelope.message(item, command) {
                        Ok(message) => {
                            let (topic_at, is_new) = self.tallies.place(&message.topic);
                            if is_new {
                                self.known.sends_to(&message.topic);
                                self.may_begin(&message.topic)?;
                            }
                            // Before it is sent: its row may be needed as soon as it is.
                            self.offered.push(Offered {
                                item,
                                index,
                                command_type,
                                message,
                                topic_at,
                            });
                            self.send_last().await?;
                        }
                        Err(Unfit { code, why }) => self.refuse(item, &storable(&command_type), "unknown", code, &why),
                    }
                }
            }
        }
        self.outcome.vanished.extend(wanted);
        Ok(())
    }

    /// A topic in trouble is given nothing but probes, also where this is the first that is heard of the fan-out sending to it
    /// and its breaker was not asked.
    fn may_begin(&self, topic: &str) -> Result<(), Stop> {
        let probes = self.probes.iter().any(|(probed, _)| probed == topic);
        if probes || !self.shared.breakers.is_in_trouble(topic) {
            return Ok(());
        }
        Err(Stop::Later {
            delay: Duration::from_secs(1),
            reason: "breaker open",
        })
    }

    /// Sends what was offered last, once there is room for it.
    async fn send_last(&mut self) -> Result<(), Stop> {
        if self.places == 0 {
            self.look()?;
            if let Some(topic) = self.offered.last().map(|offered| offered.message.topic.clone()) {
                self.take_places(&topic).await?;
            }
        } else if self.held.lease.is_told() {
            self.look()?;
        }
        if let Some(pace) = self.batch.pace_per_s {
            self.keep_pace(pace).await?;
        }
        self.places -= 1;
        while !self.hand_over()? {
            self.look()?;
            self.shared.publisher.capacity().await;
        }
        fail::fail_point!("publish.mid", |_| Err(Stop::Fate(Fate::Lost)));
        Ok(())
    }

    /// Hands what was offered last to the publisher; false when that has no room.
    fn hand_over(&mut self) -> Result<bool, Stop> {
        let Some(offered) = self.offered.last() else {
            return Ok(true);
        };
        self.tracker.in_flight().offered();
        let sink: Arc<dyn OutcomeSink> = self.tracker.clone();
        let ticket = Ticket {
            sink,
            index: offered.index,
        };
        match self.shared.publisher.publish(&offered.message, ticket) {
            Ok(()) => {
                self.sent += 1;
                self.first_offer.get_or_insert_with(Instant::now);
            }
            Err(Rejected::Refused(failure)) => self.tracker.settle(offered.index, Outcome::Refused(failure)),
            Err(Rejected::Full) => {
                self.tracker.in_flight().not_accepted();
                return Ok(false);
            }
            Err(Rejected::Unavailable) => {
                self.tracker.in_flight().not_accepted();
                return Err(Stop::Later {
                    delay: Duration::from_secs(1),
                    reason: "publisher unavailable",
                });
            }
        }
        Ok(true)
    }

    /// A probe asks with its first messages, and sends no more before its topic has taken one.
    async fn hear_probes(&mut self) -> Result<(), Stop> {
        loop {
            let all_settled = self.tracker.in_flight().open() == 0;
            self.feed_breakers();
            let unheard = |topic: &String| self.tallies.has(topic) && self.shared.breakers.is_in_trouble(topic);
            if !self.probes.iter().any(|(topic, _)| unheard(topic)) {
                return Ok(());
            }
            self.look()?;
            if all_settled {
                return Err(Stop::Later {
                    delay: Duration::from_secs(1),
                    reason: "breaker open",
                });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn take_places(&mut self, topic: &str) -> Result<(), Stop> {
        if self.sent > 0 && !self.probes.is_empty() {
            self.hear_probes().await?;
        }
        let count = STRIDE.min(self.shared.window.size());
        let tracker = self.tracker.clone();
        let take = tracker.take_places(count);
        tokio::pin!(take);
        let mut looks = 0;
        loop {
            tokio::select! {
                biased;
                () = &mut take => break,
                () = tokio::time::sleep(LOOK) => {
                    looks += 1;
                    self.look()?;
                    self.feed_breakers();
                    if self.shared.breakers.is_open(topic) {
                        return Err(Stop::Later { delay: Duration::from_secs(1), reason: "breaker open" });
                    }
                    // Places held by messages of unknown fate come free only when their batch ends: end it.
                    if looks >= 10 && self.tracker.in_flight().open() == 0 && self.tallies.any_unknown() {
                        return Err(Stop::Later { delay: Duration::from_secs(1), reason: "window full" });
                    }
                }
            }
        }
        self.places = count;
        Ok(())
    }

    /// Ends when it is to stop and a source has not come back for some time: one that waits for ever is not to hold the batch.
    async fn left(&self) -> Stop {
        loop {
            tokio::select! {
                _ = self.held.lease.must_stop() => {}
                () = self.shared.hurry.cancelled() => {}
            }
            tokio::time::sleep(READ_ON.min(self.shared.settings.drain / 4)).await;
            if let Err(stop) = self.look() {
                return stop;
            }
        }
    }

    /// Whether to go on; asked once in a while, not for each item.
    fn look(&self) -> Result<(), Stop> {
        match self.held.lease.fate() {
            Fate::Held if self.shared.hurry.is_cancelled() => Err(Stop::Later {
                delay: Duration::ZERO,
                reason: "draining",
            }),
            Fate::Held => Ok(()),
            fate => Err(Stop::Fate(fate)),
        }
    }

    /// A paced batch has its stretch of the run's time to itself and spreads its messages over it.
    async fn keep_pace(&self, pace: u32) -> Result<(), Stop> {
        let due = self.started + Duration::from_secs_f64(self.sent as f64 / f64::from(pace));
        while due > Instant::now() {
            // The next message may be far off: a stop or a lost lease is not to wait for it.
            self.look()?;
            tokio::time::sleep_until(due.min(Instant::now() + LOOK).into()).await;
        }
        Ok(())
    }

    /// False: the lease went before the outcomes came.
    async fn wait_settled(&self) -> bool {
        loop {
            tokio::select! {
                biased;
                () = self.tracker.in_flight().all_settled() => return true,
                fate = self.held.lease.must_stop() => match fate {
                    Fate::Lost => return false,
                    // Asked to stop: outcomes of what is on its way are still worth having.
                    _ => { tokio::select! {
                        () = self.tracker.in_flight().all_settled() => return true,
                        () = tokio::time::sleep(LOOK) => {}
                    } }
                }
            }
        }
    }

    /// Tells the breakers of its topics what became of messages since they were told last.
    fn feed_breakers(&mut self) {
        let (mut delivered, mut unknown) = (vec![0; self.tallies.len()], vec![0; self.tallies.len()]);
        for offered in &self.offered {
            delivered[offered.topic_at] += u32::from(self.tracker.is_delivered(offered.index as usize));
        }
        for failed in self.tracker.failures().iter().filter(|failed| !failed.refused) {
            if let Some(offered) = self.offered_at(failed.index) {
                unknown[offered.topic_at] += 1;
            }
        }
        self.tallies.tell(&self.shared.breakers, &delivered, &unknown);
    }

    /// Counts what became of its messages by topic, once they all have an outcome.
    fn tell_sent(&mut self) {
        let mut failed = BTreeMap::<(usize, &'static str), u64>::new();
        for failure in self.tracker.failures() {
            if let Some(offered) = self.offered_at(failure.index) {
                *failed.entry((offered.topic_at, failure.failure.code)).or_default() += 1;
            }
        }
        let took = self.first_offer.map(|first| first.elapsed());
        for (at, (topic, delivered)) in self.tallies.delivered().enumerate() {
            meters().sent(topic, SendPath::FanOut, u64::from(delivered));
            for ((_, code), messages) in failed.iter().filter(|((of, _), _)| *of == at) {
                meters().not_sent(topic, SendPath::FanOut, SendError::of(code), *messages);
            }
            if let Some(took) = took {
                meters().sending_took(topic, SendPath::FanOut, took);
            }
        }
        self.told.sent(self.tallies.only_topic(), self.sent);
    }

    fn offered_at(&self, index: u32) -> Option<&Offered> {
        let at = self
            .offered
            .binary_search_by_key(&index, |offered| offered.index)
            .ok()?;
        self.offered.get(at)
    }

    /// The rows of the messages that were not delivered.
    fn not_delivered(&self) -> Vec<UndeliveredItem> {
        let row = |failed: &NotDelivered| {
            let offered = self.offered_at(failed.index)?;
            let Failure { code, detail } = &failed.failure;
            let message = &offered.message;
            Some(self.envelope.undelivered(
                offered.item,
                &offered.command_type,
                message,
                failed.refused,
                code,
                detail,
            ))
        };
        self.tracker.failures().iter().filter_map(row).collect()
    }

    fn refuse(&mut self, item: i64, command_type: &str, topic: &str, code: &str, reason: &str) {
        let row = self
            .envelope
            .without_message(item, command_type, topic, true, code, reason);
        self.outcome.undelivered.push(row);
    }
}

/// What becomes of a batch whose source failed: it is tried again later, and the run fails when that goes on for long.
pub(crate) fn source_failed(known: &KnownFanOut, batch: &Batch, error: &anyhow::Error) -> BatchEnd {
    let (run, step) = (batch.claim.run, &known.path);
    match known.source_failed() {
        Some(pause) => {
            let pause_ms = pause.as_millis() as u64;
            let error = format!("{error:#}");
            tracing::warn!(name: "source_failed", %run, step, batch = batch.claim.seq, pause_ms, error, "rows of a batch could not be read: it is handed back");
            BatchEnd::HandBack {
                delay: pause,
                reason: "source failed",
            }
        }
        None => BatchEnd::SourceBroken(format!("the source of step {step} cannot be read: {error:#}")),
    }
}
