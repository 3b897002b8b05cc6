//! The messages that were sent and whose outcome is not known: a bounded number of places.

use std::sync::Arc;
use std::time::Instant;

use concurrent_queue::ConcurrentQueue;
use uuid::Uuid;

use super::super::breaker::Probe;
use super::super::direct::ReadyCommand;
use super::super::publisher::{Outcome, OutcomeSink};
use super::waiting::Waiter;

/// A message under way.
pub(super) struct Flight {
    pub(super) state: FlightState,
    pub(super) topic: Arc<str>,
    pub(super) sent: Instant,
    /// It finds out whether its topic takes messages again.
    pub(super) probe: Option<Probe>,
    pub(super) waiter: Option<Waiter>,
}

/// What is kept of it here.
pub(super) enum FlightState {
    /// All of it: should it fail, it is stored.
    Sent(Box<ReadyCommand>),
    /// It is stored, or about to be; should it be acknowledged after all, its row is settled.
    Overdue { command_type: String, message_id: Uuid },
}

/// Places of messages under way.
pub(super) struct Window {
    places: Vec<Option<Flight>>,
    free: Vec<u32>,
    overdue: usize,
}

impl Window {
    pub(super) fn new(size: usize) -> Self {
        let size = u32::try_from(size.max(1)).unwrap_or(u32::MAX);
        Self {
            places: (0..size).map(|_| None).collect(),
            free: (0..size).rev().collect(),
            overdue: 0,
        }
    }

    pub(super) fn size(&self) -> usize {
        self.places.len()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// How many of them are stored already.
    pub(super) fn overdue(&self) -> usize {
        self.overdue
    }

    /// The place that the next message takes.
    pub(super) fn next(&self) -> Option<u32> {
        self.free.last().copied()
    }

    /// Puts a message into the place that [`Window::next`] named.
    pub(super) fn put(&mut self, flight: Flight) {
        if let Some(place) = self.free.pop() {
            self.places[place as usize] = Some(flight);
        }
    }

    /// Takes a message out.
    pub(super) fn take(&mut self, place: u32) -> Option<Flight> {
        let flight = self.places.get_mut(place as usize)?.take()?;
        self.free.push(place);
        if matches!(flight.state, FlightState::Overdue { .. }) {
            self.overdue -= 1;
        }
        Some(flight)
    }

    /// Takes the commands out of those messages that were sent at such a time; they stay under way.
    pub(super) fn overtake(&mut self, is_overdue: impl Fn(Instant) -> bool) -> Vec<Overtaken> {
        let mut overtaken = Vec::new();
        for flight in self
            .places
            .iter_mut()
            .flatten()
            .filter(|flight| is_overdue(flight.sent))
        {
            let FlightState::Sent(command) = &flight.state else {
                continue;
            };
            let kept = FlightState::Overdue {
                command_type: command.command_type.clone(),
                message_id: command.message_id,
            };
            if let FlightState::Sent(command) = std::mem::replace(&mut flight.state, kept) {
                overtaken.push(Overtaken {
                    command: *command,
                    sent: flight.sent,
                    probe: flight.probe.take(),
                    waiter: flight.waiter.take(),
                });
            }
        }
        self.overdue += overtaken.len();
        overtaken
    }
}

/// A command whose message had no answer in time.
pub(super) struct Overtaken {
    pub(super) command: ReadyCommand,
    pub(super) sent: Instant,
    pub(super) probe: Option<Probe>,
    pub(super) waiter: Option<Waiter>,
}

/// Where outcomes arrive, on the publisher's threads: as many places as the window has, so it is never full.
pub(super) struct Landings(ConcurrentQueue<(u32, Outcome)>);

impl Landings {
    pub(super) fn new(window: usize) -> Arc<Self> {
        Arc::new(Self(ConcurrentQueue::bounded(window.max(1))))
    }

    pub(super) fn next(&self) -> Option<(u32, Outcome)> {
        self.0.pop().ok()
    }
}

impl OutcomeSink for Landings {
    fn settle(&self, index: u32, outcome: Outcome) {
        if self.0.push((index, outcome)).is_err() {
            tracing::error!(name: "direct_outcome_without_room", index, "an outcome found no room: it counts as unknown");
        }
    }
}
