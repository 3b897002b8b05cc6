//! The pump: one thread that takes commands from the queue, makes their bytes, offers them to the publisher, and handles
//! the outcomes. All that may wait for something else waits elsewhere.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::super::breaker::{Admission, Probe, ProbeEnd};
use super::super::breakers::Breakers;
use super::super::direct::ReadyCommand;
use super::super::fallback::FallbackRow;
use super::super::publisher::{OutcomeSink, Publisher, Rejected, Ticket};
use super::counters::add;
use super::landing::Observed;
use super::pending::{Entry, Unmade};
use super::shared::Shared;
use super::spill::{Reason, Spill, failed_row, row_of, unmade_row};
use super::stall::Stall;
use super::submitted::Submitted;
use super::waiting::{Placed, Waiter};
use super::window::{Flight, FlightState, Landings, Window};

/// Commands taken in one go before outcomes are looked at again.
const PASS: usize = 256;
/// How often those turned away are told of.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// See above.
pub(super) struct Pump {
    pub(super) shared: Arc<Shared>,
    publisher: Arc<dyn Publisher>,
    pub(super) breakers: Arc<Breakers>,
    pub(super) window: Window,
    pub(super) landings: Arc<Landings>,
    sink: Arc<dyn OutcomeSink>,
    pub(super) stall: Stall,
    /// A command for which there was no room.
    held: Option<Entry>,
    /// What found a writer's queue full: at most a window and a pass, as nothing is taken meanwhile.
    unspilled: VecDeque<Spill>,
    pub(super) observed: Observed,
    /// A topic whose breaker was asked in this pass, and lets messages through or not.
    gate: Option<(Arc<str>, bool)>,
    next_look: Instant,
    last_traffic: Instant,
    said: (Instant, u64),
}

impl Pump {
    pub(super) fn new(shared: Arc<Shared>, publisher: Arc<dyn Publisher>, breakers: Arc<Breakers>) -> Self {
        let settings = &shared.settings;
        let landings = Landings::new(settings.window);
        let now = Instant::now();
        Self {
            window: Window::new(settings.window),
            stall: Stall::new(settings.patience),
            sink: landings.clone(),
            shared,
            publisher,
            breakers,
            landings,
            held: None,
            unspilled: VecDeque::new(),
            observed: Observed::default(),
            gate: None,
            next_look: now,
            last_traffic: now,
            said: (now, 0),
        }
    }

    /// Works until it was stopped and nothing is left to do.
    pub(super) fn run(mut self) {
        self.shared.pump.is_mine();
        while !self.is_done() {
            let now = Instant::now();
            self.flush();
            let worked = self.land() | self.forward(now);
            if now >= self.next_look {
                self.look(now);
            }
            if worked {
                self.last_traffic = now;
                continue;
            }
            let waits = self.window.in_flight() > 0 || self.held.is_some() || !self.unspilled.is_empty();
            let stopping = self.shared.stopping().is_some();
            let awake_since = if waits || stopping { now } else { self.last_traffic };
            self.shared.pump.rest(awake_since, || self.shared.queue.is_empty());
        }
        self.leave();
    }

    fn is_done(&self) -> bool {
        let sent = self.window.in_flight() - self.window.overdue();
        let empty = self.held.is_none() && self.unspilled.is_empty() && self.shared.queue.is_empty();
        self.shared.stopping().is_some() && ((sent == 0 && empty) || self.shared.is_over())
    }

    /// What is still here has no place any more.
    fn leave(&mut self) {
        let queued = std::iter::from_fn(|| self.shared.queue.pop().ok()).count();
        let stored = |spill: &&Spill| !matches!(spill, Spill::Confirm(_));
        let unspilled = self.unspilled.iter().filter(stored).count();
        let sent = self.window.in_flight() - self.window.overdue();
        self.shared
            .unplaced(queued + unspilled + sent + usize::from(self.held.is_some()));
        add(&self.shared.counters.taken, queued as u64);
        self.note();
        self.shared.spill.close();
    }

    /// Takes commands and offers them; answers whether there was any.
    fn forward(&mut self, now: Instant) -> bool {
        self.gate = None;
        let stopped = self.shared.stopping().is_some_and(|stop| now >= stop.send_until);
        for done in 0..PASS {
            let has_room = self.window.next().is_some();
            let may_take = stopped || has_room || self.stall.is_stalled();
            if !may_take {
                self.blocked(now);
            }
            // While the brokers answer, a table that does not must not hold up what they take.
            let crowded = self.unspilled.len() >= self.shared.settings.window || self.stall.is_stalled() || stopped;
            if !may_take || (crowded && !self.unspilled.is_empty()) {
                return done > 0;
            }
            let Some(entry) = self.held.take().or_else(|| self.pop()) else {
                return done > 0;
            };
            if stopped {
                self.spill(Spill::Entry(entry, Reason::Stopping));
            } else if self.stall.is_stalled() && !(has_room && self.stall.may_try(now)) {
                self.spill(Spill::Entry(entry, Reason::Stalled));
            } else if !self.offer(entry, now) {
                return done > 0;
            }
        }
        true
    }

    fn pop(&self) -> Option<Entry> {
        let entry = self.shared.queue.pop().ok()?;
        add(&self.shared.counters.taken, 1);
        Some(entry)
    }

    /// False: there is no room for it now.
    fn offer(&mut self, entry: Entry, now: Instant) -> bool {
        let Entry { command, waiter, .. } = entry;
        let ready = match command.make(&self.shared.topics, &self.shared.key_hash) {
            Ok(ready) => ready,
            Err(unmade) => {
                self.unmade(*unmade, waiter);
                return true;
            }
        };
        match self.admit(&ready.message.topic) {
            Admission::Go => self.publish(ready, waiter, None, now),
            Admission::Probe(probe) => self.publish(ready, waiter, Some(probe), now),
            Admission::Wait(_) => {
                Submitted::of(&ready.message, ready.message_id, now).stored(Reason::BreakerOpen);
                let row = row_of(*ready, Reason::BreakerOpen, &self.shared.settings);
                self.spill(Spill::Row(row, waiter));
                true
            }
        }
    }

    /// Asks the topic's breaker, once a pass while the answer is a plain one.
    fn admit(&mut self, topic: &Arc<str>) -> Admission {
        if let Some((asked, open)) = &self.gate
            && asked == topic
            && *open
        {
            return Admission::Go;
        }
        let admission = self.breakers.admit(topic);
        self.gate = Some((topic.clone(), admission == Admission::Go));
        admission
    }

    fn publish(
        &mut self,
        ready: Box<ReadyCommand>,
        waiter: Option<Waiter>,
        probe: Option<Probe>,
        now: Instant,
    ) -> bool {
        let Some(place) = self.window.next() else {
            return self.no_room(ready, waiter, probe, now);
        };
        let ticket = Ticket {
            sink: self.sink.clone(),
            index: place,
        };
        let rejected = match self.publisher.publish(&ready.message, ticket) {
            Ok(()) => {
                fail::fail_point!("direct.after_publish");
                self.stall.taken();
                self.window.put(Flight {
                    topic: ready.message.topic.clone(),
                    state: FlightState::Sent(ready),
                    sent: now,
                    probe,
                    waiter,
                });
                return true;
            }
            Err(rejected) => rejected,
        };
        let row = match rejected {
            Rejected::Full => return self.no_room(ready, waiter, probe, now),
            Rejected::Unavailable => row_of(*ready, Reason::Unavailable, &self.shared.settings),
            Rejected::Refused(failure) => failed_row(*ready, true, failure, &self.shared.settings),
        };
        self.end_probe(&row.topic, probe, ProbeEnd::NothingSent);
        self.spill(Spill::Row(row, waiter));
        true
    }

    fn no_room(
        &mut self,
        ready: Box<ReadyCommand>,
        waiter: Option<Waiter>,
        probe: Option<Probe>,
        now: Instant,
    ) -> bool {
        self.end_probe(&ready.message.topic, probe, ProbeEnd::NothingSent);
        self.held = Some(Entry::new(ready, waiter));
        self.blocked(now);
        false
    }

    fn blocked(&mut self, now: Instant) {
        if self.stall.blocked(now) {
            self.say_stalled();
        }
    }

    fn unmade(&mut self, unmade: Unmade, waiter: Option<Waiter>) {
        add(&self.shared.counters.invalid, 1);
        if let Some(waiter) = waiter {
            waiter.tell(Placed::Invalid(unmade.why.clone()));
        }
        self.spill(Spill::Row(unmade_row(unmade), None));
    }

    /// Looks at what only time tells: messages without an answer, and the end of a drain.
    fn look(&mut self, now: Instant) {
        let pause = (self.shared.settings.patience / 20).clamp(Duration::from_millis(5), Duration::from_millis(100));
        self.next_look = now + pause;
        let stopped = self.shared.stopping().is_some_and(|stop| now >= stop.send_until);
        let stall = &self.stall;
        let overtaken = self.window.overtake(|sent| stopped || stall.is_overdue(sent, now));
        if !stopped && !overtaken.is_empty() && self.stall.overdue(now) {
            self.say_stalled();
        }
        for message in overtaken {
            let command = &message.command;
            Submitted::of(&command.message, command.message_id, message.sent).stored(Reason::Unconfirmed);
            let row: Box<FallbackRow> = row_of(message.command, Reason::Unconfirmed, &self.shared.settings);
            self.end_probe(&row.topic, message.probe, ProbeEnd::Failed);
            self.spill(Spill::Row(row, message.waiter));
        }
        self.note();
        self.say_turned_away(now);
    }

    pub(super) fn end_probe(&self, topic: &str, probe: Option<Probe>, end: ProbeEnd) {
        if let Some(probe) = probe {
            self.breakers.probe_over(topic, probe, end);
        }
    }

    /// Gives work to the writer, in order.
    pub(super) fn spill(&mut self, spill: Spill) {
        self.unspilled.push_back(spill);
        self.flush();
    }

    fn flush(&mut self) {
        while let Some(spill) = self.unspilled.pop_front() {
            if let Err(back) = self.shared.spill.push(spill) {
                self.unspilled.push_front(back);
                break;
            }
        }
    }

    fn note(&self) {
        let counters = &self.shared.counters;
        counters.in_flight.store(self.window.in_flight(), Ordering::Relaxed);
        counters.stalled.store(self.stall.is_stalled(), Ordering::Relaxed);
    }

    fn say_stalled(&self) {
        let in_flight = self.window.in_flight();
        tracing::warn!(name: "direct_stalled", in_flight, "the brokers do not answer: direct commands are stored");
    }

    fn say_turned_away(&mut self, now: Instant) {
        let (said_at, said) = self.said;
        let count = self.shared.counters.not_accepted.load(Ordering::Relaxed);
        if count > said && (said == 0 || now.saturating_duration_since(said_at) >= SAY_AGAIN) {
            tracing::error!(
                name: "direct_not_accepted", count = count - said,
                "direct commands were turned away: queues or memory are full"
            );
            self.said = (now, count);
        }
    }
}
