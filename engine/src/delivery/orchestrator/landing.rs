//! What the pump does with outcomes.

use std::borrow::Cow;
use std::sync::Arc;

use super::super::breaker::{Observation, ProbeEnd};
use super::super::breakers::Breakers;
use super::super::direct::ReadyCommand;
use super::super::fallback::ConfirmedRow;
use super::super::publisher::Outcome;
use super::counters::add;
use super::notices::{Fate, Notice};
use super::pump::Pump;
use super::spill::{Spill, failed_row};
use super::submitted::Submitted;
use super::waiting::{Placed, Waiter};
use super::window::FlightState;
use crate::telemetry::closed::{SendError, SendPath};
use crate::telemetry::meters;

/// Outcomes handled in one go before commands are taken again.
const LANDINGS: usize = 1_024;

/// What is to be told to the breakers after a pass, by topic.
#[derive(Debug, Default)]
pub(super) struct Observed {
    topics: Vec<(Arc<str>, u32, u32)>,
    failed: Vec<(Arc<str>, SendError, u64)>,
}

impl Observed {
    fn note(&mut self, topic: &Arc<str>, outcome: &Outcome) {
        if let Outcome::Refused(failure) | Outcome::Unknown(failure) = outcome {
            self.note_failed(topic, SendError::of(failure.code));
        }
        let (delivered, unknown) = match outcome {
            Outcome::Delivered { .. } => (1, 0),
            Outcome::Unknown(_) => (0, 1),
            // Refused messages say nothing about their topic.
            Outcome::Refused(_) => return,
        };
        match self.topics.iter_mut().find(|(known, ..)| known == topic) {
            Some((_, all_delivered, all_unknown)) => {
                *all_delivered += delivered;
                *all_unknown += unknown;
            }
            None => self.topics.push((topic.clone(), delivered, unknown)),
        }
    }

    fn note_failed(&mut self, topic: &Arc<str>, why: SendError) {
        let known = |(other, code, _): &&mut (Arc<str>, SendError, u64)| other == topic && *code == why;
        match self.failed.iter_mut().find(known) {
            Some((.., messages)) => *messages += 1,
            None => self.failed.push((topic.clone(), why, 1)),
        }
    }

    /// Tells the breakers; answers whether anything was delivered.
    fn tell(&mut self, breakers: &Breakers) -> bool {
        let mut any = false;
        for (topic, why, messages) in self.failed.drain(..) {
            meters().not_sent(&topic, SendPath::Direct, why, messages);
        }
        for (topic, delivered, unknown) in self.topics.drain(..) {
            if delivered > 0 {
                any = true;
                meters().sent(&topic, SendPath::Direct, u64::from(delivered));
                breakers.observe(&topic, Observation::Delivered(delivered));
            }
            if unknown > 0 {
                breakers.observe(&topic, Observation::Unknown(unknown));
            }
        }
        any
    }
}

impl Pump {
    /// Handles the outcomes that have come; answers whether there was any.
    pub(super) fn land(&mut self) -> bool {
        let mut landed = 0;
        while landed < LANDINGS {
            let Some((place, outcome)) = self.landings.next() else {
                break;
            };
            self.settle(place, outcome);
            landed += 1;
        }
        if landed == 0 {
            return false;
        }
        let delivered = self.observed.tell(&self.breakers);
        if delivered && self.stall.acknowledged(self.window.overdue(), self.window.size()) {
            tracing::info!(name: "direct_resumed", "the brokers answer again: direct commands are sent");
        }
        true
    }

    fn settle(&mut self, place: u32, outcome: Outcome) {
        let Some(flight) = self.window.take(place) else {
            return;
        };
        self.observed.note(&flight.topic, &outcome);
        let end = match &outcome {
            Outcome::Delivered { .. } => ProbeEnd::Delivered,
            Outcome::Unknown(_) => ProbeEnd::Failed,
            Outcome::Refused(_) => ProbeEnd::NothingSent,
        };
        self.end_probe(&flight.topic, flight.probe, end);
        match flight.state {
            FlightState::Sent(command) => {
                let submitted = Submitted::of(&command.message, command.message_id, flight.sent);
                submitted.settled(&outcome);
                self.settle_sent(*command, outcome, flight.waiter);
            }
            FlightState::Overdue {
                command_type,
                message_id,
            } => {
                // Anything else leaves the row as it is: due when the publisher has given up, which it now has.
                if let Outcome::Delivered { partition, offset } = outcome {
                    let row = ConfirmedRow {
                        command_type,
                        message_id,
                        partition,
                        offset,
                    };
                    self.spill(Spill::Confirm(Box::new(row)));
                }
            }
        }
    }

    fn settle_sent(&mut self, command: ReadyCommand, outcome: Outcome, waiter: Option<Waiter>) {
        let (refused, failure) = match outcome {
            Outcome::Delivered { partition, offset } => {
                self.delivered(command, partition, offset, waiter);
                return;
            }
            Outcome::Refused(failure) => (true, failure),
            Outcome::Unknown(failure) => (false, failure),
        };
        let row = failed_row(command, refused, failure, &self.shared.settings);
        self.spill(Spill::Row(row, waiter));
    }

    fn delivered(&self, command: ReadyCommand, partition: i32, offset: i64, waiter: Option<Waiter>) {
        add(&self.shared.counters.delivered, 1);
        if let Some(waiter) = waiter {
            waiter.tell(Placed::Delivered { partition, offset });
        }
        self.shared.notices.leave(&self.shared.counters, || Notice {
            command_type: Cow::Owned(command.command_type),
            message_id: command.message_id,
            fate: Fate::Delivered { partition, offset },
        });
    }
}
