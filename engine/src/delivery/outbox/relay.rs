//! The relay: any replica claims lanes of the outbox that have something due and sends them, one holder a lane.
//!
//! A lane's routes are sent side by side, so that a topic in trouble holds up nobody else's commands; its breaker is
//! asked before a row is touched. The rows are durable where they are: an outage moves and costs nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::lanes::{Landed, Lanes};
use super::store::OutboxStore;
use crate::delivery::{Breakers, Publisher, Topics};
use crate::lifecycle::FleetError;
use crate::telemetry::catalogue::OUTBOX_LANES;
use crate::telemetry::meters;

/// How often an idle replica looks at most: at every eighth poll.
const IDLE_POLLS: u32 = 8;
/// What writing the last outcomes may take once the drain's time is over.
const LAST_WRITES: Duration = Duration::from_secs(3);

/// Bounds and times of the relay.
#[derive(Debug, Clone)]
pub struct OutboxSettings {
    /// Rows read, sent and deleted at once.
    pub page: u32,
    /// Payload bytes after which a page is full.
    pub page_bytes: u64,
    /// Lanes held at once; with `page` the bound of what a kill can send twice, for each route.
    pub lanes: usize,
    /// How often a busy replica looks for what is due; an idle one more and more rarely, down to an eighth of that.
    pub poll: Duration,
    /// How long a claim of a lane holds without renewal.
    pub lease: Duration,
    /// How long outcomes are waited for when stopping.
    pub drain: Duration,
}

impl Default for OutboxSettings {
    fn default() -> Self {
        Self {
            page: 1000,
            page_bytes: 4 << 20,
            lanes: 8,
            poll: Duration::from_millis(250),
            lease: Duration::from_secs(60),
            drain: Duration::from_secs(10),
        }
    }
}

/// What the relay is made of.
pub struct OutboxParts {
    /// Where the rows are.
    pub store: Arc<dyn OutboxStore>,
    /// Where messages go.
    pub publisher: Arc<dyn Publisher>,
    /// The breakers that the publisher tells of its troubles.
    pub breakers: Arc<Breakers>,
    /// Where commands go that name no topic.
    pub topics: Topics,
    /// Bounds and times.
    pub settings: OutboxSettings,
}

pub(super) struct Service {
    pub(super) store: Arc<dyn OutboxStore>,
    pub(super) publisher: Arc<dyn Publisher>,
    pub(super) breakers: Arc<Breakers>,
    topics: Topics,
    pub(super) settings: OutboxSettings,
    /// Nothing more is offered.
    pub(super) stopping: CancellationToken,
    /// Outcomes are no longer waited for.
    pub(super) over: CancellationToken,
}

/// Sends what is in the outbox until told to stop.
pub struct OutboxRelay {
    service: Arc<Service>,
}

impl OutboxRelay {
    /// Puts it together; nothing runs yet.
    #[must_use]
    pub fn new(parts: OutboxParts) -> Self {
        let OutboxParts {
            store,
            publisher,
            breakers,
            topics,
            settings,
        } = parts;
        let service = Service {
            store,
            publisher,
            breakers,
            topics,
            settings,
            stopping: CancellationToken::new(),
            over: CancellationToken::new(),
        };
        Self {
            service: Arc::new(service),
        }
    }

    /// Works until told to stop, then drains: pages on their way are waited for and written down, and the lanes given
    /// back. Answers whether that was done in time; what was not is free when its lease ends. Not run again after that.
    pub async fn run(&self, stop: CancellationToken) -> bool {
        let service = &self.service;
        let mut lanes = Lanes::default();
        let mut quiet = 0u32;
        let mut behind = None;
        let held = meters().value(&OUTBOX_LANES, &[]);
        while !stop.is_cancelled() {
            let more = service.round(&mut lanes, &mut behind).await.unwrap_or_else(|error| {
                tracing::warn!(name: "looking_failed", kind = "outbox", %error, "work could not be looked for");
                false
            });
            held.set(lanes.count() as f64);
            quiet = if lanes.count() > 0 { 0 } else { quiet.saturating_add(1) };
            service.wait(&mut lanes, quiet, more, &stop).await;
        }
        held.set(0.0);
        service.stopping.cancel();
        let drain = service.settings.drain;
        if tokio::time::timeout(drain, lanes.all_landed(service)).await.is_ok() {
            return true;
        }
        service.over.cancel();
        tokio::time::timeout(LAST_WRITES, lanes.all_landed(service))
            .await
            .is_ok()
    }
}

/// A route and the topic it leads to.
type Routed = (Arc<str>, Arc<str>);

/// Where a route leads.
enum Leads {
    To(Arc<str>),
    /// Its breaker would let nothing through.
    Closed,
    /// No topic is configured for this type.
    Nowhere,
}

impl Service {
    /// Sends what is due of the lanes that are held, and claims others while there is room. Answers whether there are
    /// more than there was room for.
    async fn round(
        self: &Arc<Self>,
        lanes: &mut Lanes,
        behind: &mut Option<(i16, String)>,
    ) -> Result<bool, FleetError> {
        // In the order of their turns.
        let mut free: Vec<i16> = Vec::new();
        let mut routes: BTreeMap<i16, Vec<Routed>> = BTreeMap::new();
        let due = self.store.due_routes(behind.as_ref()).await?;
        *behind = due.more_behind;
        for due in due.routes {
            let (lane, route): (i16, Arc<str>) = (due.lane, due.route.into());
            if lanes.is_resting(lane, &route) {
                continue;
            }
            let topic = match self.leads(&route) {
                Leads::To(topic) => topic,
                Leads::Closed => continue,
                Leads::Nowhere => {
                    tracing::warn!(name: "outbox_unroutable", lane, %route, "commands wait in the outbox: no topic is configured for their type");
                    lanes.rest(lane, route);
                    continue;
                }
            };
            if lanes.holds(lane) {
                lanes.launch(self, lane, route, topic);
            } else if due.free {
                if free.last() != Some(&lane) {
                    free.push(lane);
                }
                routes.entry(lane).or_default().push((route, topic));
            }
        }
        let room = self.settings.lanes.saturating_sub(lanes.count());
        let more = free.len() > room;
        free.truncate(room);
        if !free.is_empty() {
            let asked = Instant::now();
            // Should the claim be granted and its answer lost, the lanes are free again when its lease ends.
            let claimed = self
                .store
                .claim_lanes(Uuid::new_v4(), &free, self.settings.lease)
                .await?;
            for claim in claimed {
                lanes.take(self, claim, asked);
                for (route, topic) in routes.remove(&claim.lane).unwrap_or_default() {
                    lanes.launch(self, claim.lane, route, topic);
                }
            }
        }
        Ok(more || behind.is_some())
    }

    fn leads(&self, route: &str) -> Leads {
        let topic = match route.strip_prefix(':') {
            None => Some(Arc::from(route)),
            Some(kind) => self.topics.of_kind(kind),
        };
        match topic {
            None => Leads::Nowhere,
            Some(topic) if self.breakers.is_in_trouble(&topic) && !self.breakers.may_probe(&topic) => Leads::Closed,
            Some(topic) => Leads::To(topic),
        }
    }

    /// Waits for a reason to look again: a lane came back and something waits, or the poll.
    async fn wait(self: &Arc<Self>, lanes: &mut Lanes, quiet: u32, more: bool, stop: &CancellationToken) {
        let stretch = (1 << quiet.min(10)).min(IDLE_POLLS);
        // Never shorter than the poll: an idle replica asks at most once in that time.
        let pause = self.settings.poll * stretch;
        let until = tokio::time::Instant::now() + pause.mul_f64(rand::random_range(1.0..1.3));
        let mut waits = more;
        loop {
            lanes.release_idle(self);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(until) => return,
                landed = lanes.landed() => match landed {
                    Landed::TurnOver => waits = true,
                    Landed::Released if waits => return,
                    Landed::Released | Landed::Stream => {}
                },
            }
        }
    }
}
