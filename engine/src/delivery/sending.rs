//! Offers messages to the publisher, all of them in flight at once, collects their outcomes and tells the breaker.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::breaker::{Observation, Probe, ProbeEnd};
use super::breakers::Breakers;
use super::in_flight::InFlight;
use super::publisher::{Failure, Message, Outcome, OutcomeSink, Publisher, Rejected, Ticket};
use crate::telemetry::closed::{SendError, SendPath};
use crate::telemetry::meters;

/// How often a sender looks whether it should go on, in messages.
const LOOK_EVERY: usize = 50;

/// Outcomes of one page, filled by the publisher's threads.
pub(super) struct PageTracker {
    in_flight: InFlight,
    outcomes: Mutex<Vec<Option<Outcome>>>,
}

impl PageTracker {
    pub(super) fn new(rows: usize) -> Self {
        Self {
            in_flight: InFlight::default(),
            outcomes: Mutex::new(vec![None; rows]),
        }
    }

    pub(super) fn outcomes(&self) -> Vec<Option<Outcome>> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl OutcomeSink for PageTracker {
    fn settle(&self, index: u32, outcome: Outcome) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = outcomes.get_mut(index as usize) {
            *place = Some(outcome);
        }
        drop(outcomes);
        self.in_flight.settled();
    }
}

/// Offers every message in order and waits for the outcomes of those that were accepted; nothing: there is no message
/// to send. Once told to stop it offers no more.
pub(super) async fn send<M: Borrow<Message> + Send + Sync>(
    publisher: &dyn Publisher,
    messages: impl Iterator<Item = Option<M>> + Send,
    tracker: &Arc<PageTracker>,
    must_stop: impl Fn() -> bool + Sync,
) {
    for (index, message) in messages.enumerate() {
        if index % LOOK_EVERY == 0 && must_stop() {
            break;
        }
        let Some(message) = message else {
            tracker.in_flight.offered();
            tracker.settle(index as u32, Outcome::Refused(no_message()));
            continue;
        };
        if !offer(publisher, message.borrow(), tracker, index as u32, &must_stop).await {
            break;
        }
    }
    tracker.in_flight.all_settled().await;
}

/// False: nothing more can be offered now.
async fn offer(
    publisher: &dyn Publisher,
    message: &Message,
    tracker: &Arc<PageTracker>,
    index: u32,
    must_stop: &(impl Fn() -> bool + Sync),
) -> bool {
    loop {
        tracker.in_flight.offered();
        let sink: Arc<dyn OutcomeSink> = tracker.clone();
        match publisher.publish(message, Ticket { sink, index }) {
            Ok(()) => return true,
            Err(Rejected::Refused(failure)) => {
                tracker.settle(index, Outcome::Refused(failure));
                return true;
            }
            Err(Rejected::Full) => {
                tracker.in_flight.not_accepted();
                if must_stop() {
                    return false;
                }
                publisher.capacity().await;
            }
            Err(Rejected::Unavailable) => {
                tracker.in_flight.not_accepted();
                return false;
            }
        }
    }
}

/// Counts what became of a page's messages, of which the last outcome came so long after the first offer.
pub(super) fn count(topic: &str, path: SendPath, outcomes: &[Option<Outcome>], time: Duration) {
    let (mut delivered, mut failed) = (0, BTreeMap::<&str, u64>::new());
    for outcome in outcomes.iter().flatten() {
        match outcome {
            Outcome::Delivered { .. } => delivered += 1,
            Outcome::Refused(failure) | Outcome::Unknown(failure) => *failed.entry(failure.code).or_default() += 1,
        }
    }
    meters().sent(topic, path, delivered);
    for (code, messages) in failed {
        meters().not_sent(topic, path, SendError::of(code), messages);
    }
    meters().sending_took(topic, path, time);
}

/// What became of a page's messages, for the breaker of their topic.
pub(super) fn tell_breaker(breakers: &Breakers, topic: &str, outcomes: &[Option<Outcome>], probe: Option<Probe>) {
    let count = |wanted: fn(&Outcome) -> bool| {
        let found = outcomes.iter().flatten().filter(|outcome| wanted(outcome)).count();
        u32::try_from(found).unwrap_or(u32::MAX)
    };
    let delivered = count(|outcome| matches!(outcome, Outcome::Delivered { .. }));
    let unknown = count(|outcome| matches!(outcome, Outcome::Unknown(_)));
    if delivered > 0 {
        breakers.observe(topic, Observation::Delivered(delivered));
    }
    if unknown > 0 {
        breakers.observe(topic, Observation::Unknown(unknown));
    }
    if let Some(probe) = probe {
        let end = match (delivered, unknown) {
            (1.., _) => ProbeEnd::Delivered,
            (0, 1..) => ProbeEnd::Failed,
            (0, 0) => ProbeEnd::NothingSent,
        };
        breakers.probe_over(topic, probe, end);
    }
}

fn no_message() -> Failure {
    Failure {
        code: "no_message",
        detail: "there is no message to send: none could be made, or it was cleared".to_owned(),
    }
}
