//! One route of a held lane: page after page, each sent whole, waited for and written down before the next is sent.

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::message::{Outgoing, outgoing};
use super::relay::Service;
use super::store::{LaneClaim, OutboxRow, PageAsk, Place, SettledPage, Settling};
use super::verdict::judge;
use crate::delivery::breaker::{Admission, Probe, ProbeEnd};
use crate::delivery::keeper::STORE_PAUSE;
use crate::delivery::page_span;
use crate::delivery::publisher::Failure;
use crate::delivery::sending::{PageTracker, count, send, tell_breaker};
use crate::lifecycle::FleetError;
use crate::telemetry::catalogue::{DELIVERED, KEPT, LANE, REFUSED, RELAY};
use crate::telemetry::closed::{RelayEnd, SendPath};
use crate::telemetry::{Spanned, meters};

/// Enough to learn whether a topic takes messages again, few enough to lose little time on one that does not.
const PROBE_ROWS: u32 = 50;
/// Pages after which a lane goes back, so that others have their turn and rows committed late are come by.
const TURN: u32 = 32;

/// How the sending of a route ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// Nothing is left that is due.
    Dry,
    /// Its turn is over; there may be more.
    TurnOver,
    /// The topic is in trouble: its breaker says when to try again.
    Blocked,
    /// Some of it stays, to be sent again after a pause.
    Trouble(String),
    /// The lane is somebody else's, or may be.
    Lost,
    /// The replica stops.
    Stopping,
}

/// What is sent: a route of a lane, to a topic.
pub(super) struct Stream {
    pub(super) claim: LaneClaim,
    /// The lane's lease can no longer be trusted.
    pub(super) lost: CancellationToken,
    pub(super) route: Arc<str>,
    pub(super) topic: Arc<str>,
}

/// Where a stream stands.
#[derive(Default)]
struct Progress {
    after: Place,
    settled: SettledPage,
    trouble: Option<Failure>,
    pages: u32,
    delivered: usize,
    refused: usize,
    kept: usize,
}

impl Stream {
    /// Sends until there is a reason not to.
    pub(super) async fn run(self, service: &Service) -> Ended {
        fail::fail_point!("outbox.after_claim");
        let mut progress = Progress::default();
        let ended = self.pages(service, &mut progress).await;
        let Progress {
            delivered,
            refused,
            kept,
            trouble,
            ..
        } = progress;
        if delivered + refused + kept > 0 {
            let trouble = trouble.map(|failure| failure.code);
            tracing::info!(name: "outbox_sent", lane = self.claim.lane, topic = %self.topic, delivered, refused, kept, trouble, "commands of the outbox were sent");
        }
        ended
    }

    async fn pages(&self, service: &Service, progress: &mut Progress) -> Ended {
        loop {
            let (next, probe) = match self.go_on(service, progress) {
                Ok((rows, probe)) => (Ok(rows), probe),
                Err(why) => (Err(why), None),
            };
            if let (Err(why), true) = (&next, progress.settled.is_empty()) {
                return why.clone();
            }
            let writes = !progress.settled.is_empty();
            let rows = self.turn_page(service, progress, next.clone().ok()).await;
            if writes {
                fail::fail_point!("outbox.after_delete");
            }
            let some = rows.as_ref().is_ok_and(|rows| !rows.is_empty());
            if let (false, Some(probe)) = (some, probe) {
                service.breakers.probe_over(&self.topic, probe, ProbeEnd::NothingSent);
            }
            match (rows, next) {
                (Err(why), _) | (Ok(_), Err(why)) => return why,
                (Ok(rows), Ok(_)) if rows.is_empty() => return Ended::Dry,
                (Ok(rows), Ok(_)) => self.send_page(service, progress, rows, probe).await,
            }
        }
    }

    /// How many rows the next page may have, or why there is none.
    fn go_on(&self, service: &Service, progress: &Progress) -> Result<(u32, Option<Probe>), Ended> {
        if self.lost.is_cancelled() {
            return Err(Ended::Lost);
        }
        if service.stopping.is_cancelled() {
            return Err(Ended::Stopping);
        }
        if let Some(Failure { code, detail }) = &progress.trouble {
            return Err(Ended::Trouble(format!("{code}: {detail}")));
        }
        if progress.pages >= TURN {
            return Err(Ended::TurnOver);
        }
        match service.breakers.admit(&self.topic) {
            Admission::Wait(_) => Err(Ended::Blocked),
            Admission::Go => Ok((service.settings.page, None)),
            Admission::Probe(probe) => Ok((service.settings.page.min(PROBE_ROWS), Some(probe))),
        }
    }

    /// Writes down what became of the last page and reads the next, for as long as the lane can be held.
    async fn turn_page(
        &self,
        service: &Service,
        progress: &mut Progress,
        rows: Option<u32>,
    ) -> Result<Vec<OutboxRow>, Ended> {
        let settling = Settling {
            settled: std::mem::take(&mut progress.settled),
            topic: self.topic.to_string(),
            next: rows.map(|rows| PageAsk {
                route: self.route.to_string(),
                after: progress.after,
                rows,
                bytes: service.settings.page_bytes,
            }),
        };
        loop {
            let error = match service.store.settle_outbox(&self.claim, &settling).await {
                Ok(page) => return page.ok_or(Ended::Lost),
                // It would say so for ever: the lane goes back with what it said, for people to see.
                Err(error @ FleetError::Refused(_)) => return Err(Ended::Trouble(error.to_string())),
                Err(error) => error,
            };
            tracing::warn!(name: "outbox_page_not_written", lane = self.claim.lane, %error, "what became of a page of the outbox is not written yet");
            // Rows that are not deleted are sent again: nothing is lost by giving up.
            if self.lost.is_cancelled() || service.over.is_cancelled() {
                return Err(Ended::Lost);
            }
            tokio::time::sleep(STORE_PAUSE).await;
        }
    }

    async fn send_page(&self, service: &Service, progress: &mut Progress, rows: Vec<OutboxRow>, probe: Option<Probe>) {
        let rows: Vec<Outgoing> = rows.into_iter().map(|row| outgoing(&self.topic, row)).collect();
        let traceparents = rows.iter().map(|row| row.message.headers.get("traceparent"));
        let (span, begin) = (page_span::begin(&RELAY, &self.topic, traceparents), Instant::now());
        let tracker = Arc::new(PageTracker::new(rows.len()));
        let messages = rows.iter().map(|row| {
            fail::fail_point!("outbox.mid_page");
            (!row.broken).then_some(&row.message)
        });
        let must_stop =
            || service.stopping.is_cancelled() || self.lost.is_cancelled() || service.breakers.is_open(&self.topic);
        tokio::select! {
            () = send(&*service.publisher, messages, &tracker, must_stop) => {}
            // Outcomes that are known by now are worth writing all the same: the fence decides.
            () = self.lost.cancelled() => {}
            () = service.over.cancelled() => {}
        }
        fail::fail_point!("outbox.after_publish");
        let outcomes = tracker.outcomes();
        count(&self.topic, SendPath::Outbox, &outcomes, begin.elapsed());
        tell_breaker(&service.breakers, &self.topic, &outcomes, probe);
        let verdict = judge(&rows, outcomes);
        progress.pages += 1;
        progress.delivered += verdict.settled.delivered.len();
        progress.refused += verdict.settled.refused.len();
        progress.kept += verdict.kept;
        progress.after = rows.last().map_or(progress.after, |row| row.place);
        if verdict.kept > 0 {
            progress.trouble = verdict.trouble.or_else(|| Some(not_taken()));
        }
        self.tell(span, &verdict.settled, verdict.kept);
        progress.settled = verdict.settled;
    }

    /// Counts what became of a page.
    fn tell(&self, mut span: Spanned, settled: &SettledPage, kept: usize) {
        span.set(&LANE, i64::from(self.claim.lane));
        for (end, attribute, messages) in [
            (RelayEnd::Delivered, &DELIVERED, settled.delivered.len()),
            (RelayEnd::Refused, &REFUSED, settled.refused.len()),
            (RelayEnd::Kept, &KEPT, kept),
        ] {
            meters().relayed(end, messages as u64);
            span.set(attribute, messages as i64);
        }
        span.end();
    }
}

fn not_taken() -> Failure {
    Failure {
        code: "not_taken",
        detail: "the publisher did not take it, or its outcome was not waited for".to_owned(),
    }
}
