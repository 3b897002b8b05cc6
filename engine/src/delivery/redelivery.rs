//! Redelivery: any replica takes due pages of undelivered messages and streams them to the broker again.
//!
//! Pages are claimed per topic, so a topic in trouble holds up nobody else's rows, and its breaker is asked before a
//! row is touched. One topic never takes the last place for a page while another one may need it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::flights::Flights;
use super::page::Page;
use super::retry::RetryPolicy;
use super::{Admission, Breakers, PageRequest, Probe, ProbeEnd, Publisher, UndeliveredStore};
use crate::lifecycle::FleetError;

/// Enough to learn whether a topic takes messages again, few enough to lose little time on one that does not.
const PROBE_ROWS: u32 = 50;
/// Rounds without anything due after which a replica asks half as often.
const QUIET_ROUNDS: u32 = 5;
/// After so many it asks an eighth as often.
const VERY_QUIET_ROUNDS: u32 = 20;
/// What writing the last outcomes may take once the drain's time is over.
const LAST_WRITES: Duration = Duration::from_secs(3);

/// Bounds and times of redelivery.
#[derive(Debug, Clone)]
pub struct RedeliverySettings {
    /// Rows claimed at once.
    pub page: u32,
    /// Payload bytes after which a page is full.
    pub page_bytes: u64,
    /// Pages in flight; with `page` the bound of what a kill can send twice.
    pub pages: usize,
    /// Attempts before a message is dead.
    pub max_attempts: u32,
    /// Delay after the first attempt.
    pub first_delay: Duration,
    /// Longest delay between attempts.
    pub max_delay: Duration,
    /// How long a claim holds without renewal.
    pub lease: Duration,
    /// How often to look when nobody hints at anything.
    pub poll: Duration,
    /// How long outcomes are waited for when stopping.
    pub drain: Duration,
}

impl Default for RedeliverySettings {
    fn default() -> Self {
        Self {
            page: 1000,
            page_bytes: 8 << 20,
            pages: 4,
            max_attempts: 20,
            first_delay: Duration::from_secs(5),
            max_delay: Duration::from_secs(600),
            lease: Duration::from_secs(60),
            poll: Duration::from_secs(1),
            drain: Duration::from_secs(10),
        }
    }
}

/// What redelivery is made of.
pub struct RedeliveryParts {
    /// Where the rows are.
    pub store: Arc<dyn UndeliveredStore>,
    /// Where messages go.
    pub publisher: Arc<dyn Publisher>,
    /// The breakers that the publisher tells of its troubles.
    pub breakers: Arc<Breakers>,
    /// Bounds and times.
    pub settings: RedeliverySettings,
    /// Rung by whoever knows of due rows; the poll finds them anyway.
    pub hint: Arc<Notify>,
}

pub(super) struct Service {
    pub(super) store: Arc<dyn UndeliveredStore>,
    pub(super) publisher: Arc<dyn Publisher>,
    pub(super) breakers: Arc<Breakers>,
    pub(super) settings: RedeliverySettings,
    pub(super) retry: RetryPolicy,
    /// Nothing more is offered.
    pub(super) stopping: CancellationToken,
    /// Outcomes are no longer waited for.
    pub(super) over: CancellationToken,
    hint: Arc<Notify>,
}

/// Redelivers until told to stop.
pub struct RedeliveryLoop {
    service: Arc<Service>,
}

impl RedeliveryLoop {
    /// Puts it together; nothing runs yet.
    #[must_use]
    pub fn new(parts: RedeliveryParts) -> Self {
        let RedeliveryParts {
            store,
            publisher,
            breakers,
            settings,
            hint,
        } = parts;
        let retry = RetryPolicy {
            max_attempts: settings.max_attempts,
            first_delay: settings.first_delay,
            max_delay: settings.max_delay,
        };
        let service = Service {
            store,
            publisher,
            breakers,
            settings,
            retry,
            stopping: CancellationToken::new(),
            over: CancellationToken::new(),
            hint,
        };
        Self {
            service: Arc::new(service),
        }
    }

    /// Works until told to stop, then drains: outcomes on their way are waited for and written, the rest is handed
    /// back. Answers whether that was done in time; what was not is recovered. Not run again after that.
    pub async fn run(&self, stop: CancellationToken) -> bool {
        let service = &self.service;
        let mut flights = Flights::default();
        let mut quiet = 0u32;
        while !stop.is_cancelled() {
            match service.round(&mut flights).await {
                Ok(Round::MoreAtOnce) => {
                    quiet = 0;
                    continue;
                }
                Ok(Round::Claimed) => quiet = 0,
                Ok(Round::Nothing) => quiet = quiet.saturating_add(1),
                Err(error) => {
                    tracing::warn!(name: "looking_failed", kind = "undelivered", %error, "work could not be looked for")
                }
            }
            service.wait(&mut flights, quiet, &stop).await;
        }
        service.stopping.cancel();
        if tokio::time::timeout(service.settings.drain, flights.all_landed())
            .await
            .is_ok()
        {
            return true;
        }
        service.over.cancel();
        tokio::time::timeout(LAST_WRITES, flights.all_landed()).await.is_ok()
    }
}

/// What a round found.
enum Round {
    /// A full page: there is more behind it.
    MoreAtOnce,
    /// All that was due, or all that there was room for.
    Claimed,
    Nothing,
}

impl Service {
    /// Claims a page of each topic that has something due, while there is room.
    async fn round(self: &Arc<Self>, flights: &mut Flights) -> Result<Round, FleetError> {
        flights.clear_landed();
        if flights.count() >= self.settings.pages {
            return Ok(Round::Claimed);
        }
        let mut found = Round::Nothing;
        for topic in self.store.due_topics().await? {
            if !flights.has_room(&topic, self.settings.pages) {
                found = Round::Claimed;
                continue;
            }
            let Some(page) = self.claim(topic).await? else {
                continue;
            };
            found = match (page.full, found) {
                (true, _) | (_, Round::MoreAtOnce) => Round::MoreAtOnce,
                _ => Round::Claimed,
            };
            flights.launch(self.clone(), page);
        }
        Ok(found)
    }

    /// A page of a topic whose breaker lets it through.
    async fn claim(&self, topic: String) -> Result<Option<Page>, FleetError> {
        let probe: Option<Probe> = match self.breakers.admit(&topic) {
            Admission::Wait(_) => return Ok(None),
            Admission::Go => None,
            Admission::Probe(probe) => Some(probe),
        };
        let request = PageRequest {
            claim_id: Uuid::new_v4(),
            rows: probe.map_or(self.settings.page, |_| self.settings.page.min(PROBE_ROWS)),
            bytes: self.settings.page_bytes,
            lease: self.settings.lease,
            topic,
        };
        let asked = Instant::now();
        let claimed = self.store.claim_undelivered(&request).await;
        let got_rows = claimed.as_ref().is_ok_and(|rows| !rows.is_empty());
        if let (Some(probe), false) = (probe, got_rows) {
            self.breakers.probe_over(&request.topic, probe, ProbeEnd::NothingSent);
        }
        // Should the claim have been granted and its answer lost, its lease ends and the rows are due again.
        let rows = claimed?;
        Ok(got_rows.then(|| Page {
            full: rows.len() >= request.rows as usize,
            claim_id: request.claim_id,
            topic: request.topic.into(),
            rows,
            probe,
            asked,
        }))
    }

    /// Waits for a reason to look again: a full page has landed, a hint, or the poll.
    async fn wait(&self, flights: &mut Flights, quiet: u32, stop: &CancellationToken) {
        let stretch = match quiet {
            quiet if quiet <= QUIET_ROUNDS => 1.0,
            quiet if quiet <= VERY_QUIET_ROUNDS => 2.0,
            _ => 8.0,
        };
        // Never shorter than the poll: an idle replica asks at most once in that time.
        let pause = self.settings.poll.mul_f64(stretch * rand::random_range(1.0..1.3));
        let until = tokio::time::Instant::now() + pause;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.hint.notified() => return,
                () = tokio::time::sleep_until(until) => return,
                was_full = flights.landed() => if was_full { return },
            }
        }
    }
}
