//! One claimed page of undelivered messages: send all of it, wait for the outcomes, write them down.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryFutureExt;
use uuid::Uuid;

use super::breaker::Probe;
use super::keeper::{Lease, STORE_PAUSE};
use super::page_span;
use super::publisher::{Message, Outcome};
use super::redelivery::Service;
use super::sending::{PageTracker, count, send, tell_breaker};
use super::undelivered::{RowClaim, SettledRow, Settlement, UndeliveredRow};
use crate::telemetry::catalogue::{DEAD, DELIVERED, HANDED_BACK, REDELIVER, REFUSED, RETRIED};
use crate::telemetry::closed::{LeaseKind, RedeliveryEnd, SendPath};
use crate::telemetry::{Spanned, meters, within};

/// Before rows are due again that were given back because their topic or the publisher was in trouble.
const TROUBLE_PAUSE: Duration = Duration::from_secs(1);

/// A page of rows held by this process.
pub(super) struct Page {
    pub(super) claim_id: Uuid,
    pub(super) topic: Arc<str>,
    pub(super) rows: Vec<UndeliveredRow>,
    /// There is more behind it.
    pub(super) full: bool,
    /// It finds out whether the topic takes messages again.
    pub(super) probe: Option<Probe>,
    /// From before the claim was asked for.
    pub(super) asked: Instant,
}

impl Page {
    fn claims(&self) -> Vec<RowClaim> {
        self.rows.iter().map(|row| row.claim.clone()).collect()
    }

    fn begin_span(&self) -> Spanned {
        let traceparents = self.rows.iter().map(|row| {
            let mut headers = row.headers.iter();
            let found = headers.find(|(name, _)| name == "traceparent");
            found.map(|(_, value)| value.as_bytes())
        });
        page_span::begin(&REDELIVER, &self.topic, traceparents)
    }
}

/// Sends a page and writes down what became of it. However it ends, no row of it stays claimed longer than its lease.
pub(super) async fn redeliver(service: &Service, page: Page) {
    fail::fail_point!("redelivery.after_claim");
    let (span, begin) = (page.begin_span(), Instant::now());
    let tracker = Arc::new(PageTracker::new(page.rows.len()));
    let messages = page.rows.iter().map(|row| message(&page.topic, row));
    let must_stop = || service.stopping.is_cancelled() || service.breakers.is_open(&page.topic);
    tokio::select! {
        () = send(&*service.publisher, messages, &tracker, must_stop) => {}
        // Outcomes that are known by now are worth writing all the same: each row's fence decides.
        () = keep(service, &page) => {}
        () = service.over.cancelled() => {}
    }
    fail::fail_point!("redelivery.after_publish");
    let outcomes = tracker.outcomes();
    count(&page.topic, SendPath::Redelivery, &outcomes, begin.elapsed());
    tell_breaker(&service.breakers, &page.topic, &outcomes, page.probe);
    let (settled, handed_back) = within(span.context(), conclude(service, &page, outcomes)).await;
    report(&page, &settled, handed_back, span);
    fail::fail_point!("redelivery.after_commit");
}

/// The same message as the first time: key, headers and bytes as they were stored.
fn message(topic: &Arc<str>, row: &UndeliveredRow) -> Option<Message> {
    let headers = row.headers.iter().map(|(name, value)| (name, value));
    Some(Message {
        topic: topic.clone(),
        key: row.key.clone(),
        payload: row.payload.clone()?,
        headers: headers.collect(),
    })
}

/// Holds the page's lease for as long as it is polled; ends when the lease is lost.
async fn keep(service: &Service, page: &Page) {
    let claims = page.claims();
    let all = claims.len() as u64;
    let lease = Lease {
        kind: LeaseKind::Undelivered,
        count: claims.len(),
        lane: None,
        topic: Some(page.topic.clone()),
        length: service.settings.lease,
        asked: page.asked,
    };
    let renew = |length| {
        let renewed = service.store.renew_undelivered(page.claim_id, &claims, length);
        renewed.map_ok(move |held| held == all)
    };
    lease.keep(renew).await;
}

/// Writes the outcomes and gives the rest back; answers what it wrote, and how many it gave back.
async fn conclude(service: &Service, page: &Page, outcomes: Vec<Option<Outcome>>) -> (Vec<SettledRow>, usize) {
    let topic_open = service.breakers.is_open(&page.topic);
    let (mut settled, mut back) = (Vec::new(), Vec::new());
    for (row, outcome) in page.rows.iter().zip(outcomes) {
        let random = rand::random_range(0.0..1.0);
        let claim = row.claim.clone();
        match service.retry.settle(row.attempts, outcome, topic_open, random) {
            Some(settlement) => settled.push(SettledRow { claim, settlement }),
            None => back.push(claim),
        }
    }
    // The fence decides; the bound keeps a page from being held up for ever by a store that does not answer.
    let until = Instant::now() + service.settings.lease;
    if !settled.is_empty() {
        let write = || service.store.settle_undelivered(page.claim_id, &settled);
        written(page, "settled", settled.len(), until, write).await;
    }
    if !back.is_empty() {
        let stopping = service.stopping.is_cancelled();
        let delay = if stopping { Duration::ZERO } else { TROUBLE_PAUSE };
        let write = || service.store.hand_back_undelivered(page.claim_id, &back, delay);
        written(page, "handed back", back.len(), until, write).await;
    }
    (settled, back.len())
}

/// Repeats a write until it is answered: every one of them finds what an unanswered one before it did.
async fn written<F>(page: &Page, what: &str, rows: usize, until: Instant, write: impl Fn() -> F)
where
    F: Future<Output = Result<u64, crate::lifecycle::FleetError>>,
{
    loop {
        match write().await {
            Ok(held) if held == rows as u64 => return,
            Ok(held) => {
                let lost = rows as u64 - held.min(rows as u64);
                tracing::warn!(name: "rows_taken_over", topic = %page.topic, rows = lost, what, "undelivered messages were taken over before they were written down");
                return;
            }
            Err(error) => {
                tracing::warn!(name: "rows_not_written", topic = %page.topic, rows, what, %error, "what became of undelivered messages is not written yet");
            }
        }
        if Instant::now() >= until {
            return;
        }
        tokio::time::sleep(STORE_PAUSE).await;
    }
}

/// Counts what became of the page, and says it.
fn report(page: &Page, settled: &[SettledRow], handed_back: usize, mut span: Spanned) {
    let count = |wanted: fn(&Settlement) -> bool| settled.iter().filter(|row| wanted(&row.settlement)).count();
    let delivered = count(|settlement| matches!(settlement, Settlement::Delivered { .. }));
    let refused = count(|settlement| matches!(settlement, Settlement::Refused(_)));
    let retried = count(|settlement| matches!(settlement, Settlement::Retry { .. }));
    let dead = count(|settlement| matches!(settlement, Settlement::Dead(_)));
    for (end, attribute, rows) in [
        (RedeliveryEnd::Delivered, &DELIVERED, delivered),
        (RedeliveryEnd::Refused, &REFUSED, refused),
        (RedeliveryEnd::Retried, &RETRIED, retried),
        (RedeliveryEnd::Dead, &DEAD, dead),
        (RedeliveryEnd::HandedBack, &HANDED_BACK, handed_back),
    ] {
        meters().redelivered(end, rows as u64);
        span.set(attribute, rows as i64);
    }
    span.end();
    tracing::info!(
        name: "redelivered", topic = %page.topic, delivered, refused, retried, dead, handed_back,
        "undelivered messages were tried again"
    );
}
