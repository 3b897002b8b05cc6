//! Offers the rows of a page to the publisher, all of them in flight at once, and collects their outcomes.

use std::sync::{Arc, Mutex, PoisonError};

use super::in_flight::InFlight;
use super::page::Page;
use super::publisher::{Failure, Message, Outcome, OutcomeSink, Rejected, Ticket};
use super::redelivery::Service;
use super::undelivered::UndeliveredRow;

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

/// Offers every row and waits for the outcomes of those that were accepted.
pub(super) async fn send(service: &Service, page: &Page, tracker: &Arc<PageTracker>) {
    for (index, row) in page.rows.iter().enumerate() {
        if index % LOOK_EVERY == 0 && must_stop(service, page) {
            break;
        }
        if !offer(service, page, tracker, index, row).await {
            break;
        }
    }
    tracker.in_flight.all_settled().await;
}

fn must_stop(service: &Service, page: &Page) -> bool {
    service.stopping.is_cancelled() || service.breakers.is_open(&page.topic)
}

/// False: nothing more can be offered now.
async fn offer(service: &Service, page: &Page, tracker: &Arc<PageTracker>, index: usize, row: &UndeliveredRow) -> bool {
    let ticket_index = index as u32;
    let Some(message) = message(&page.topic, row) else {
        tracker.in_flight.offered();
        tracker.settle(ticket_index, Outcome::Refused(no_message()));
        return true;
    };
    loop {
        tracker.in_flight.offered();
        let sink: Arc<dyn OutcomeSink> = tracker.clone();
        let ticket = Ticket {
            sink,
            index: ticket_index,
        };
        match service.publisher.publish(&message, ticket) {
            Ok(()) => return true,
            Err(Rejected::Refused(failure)) => {
                tracker.settle(ticket_index, Outcome::Refused(failure));
                return true;
            }
            Err(Rejected::Full) => {
                tracker.in_flight.not_accepted();
                if must_stop(service, page) {
                    return false;
                }
                service.publisher.capacity().await;
            }
            Err(Rejected::Unavailable) => {
                tracker.in_flight.not_accepted();
                return false;
            }
        }
    }
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

fn no_message() -> Failure {
    Failure {
        code: "no_message",
        detail: "there is no message to send: none could be made, or it was cleared".to_owned(),
    }
}
