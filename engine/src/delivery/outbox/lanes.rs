//! The lanes this replica holds, what it sends of each, and which routes rest after trouble.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::relay::Service;
use super::store::LaneClaim;
use super::stream::{Ended, Stream};
use crate::delivery::keeper::Lease;
use crate::telemetry::closed::LeaseKind;

/// First and longest rest of a route after trouble.
const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// After so long without trouble a route's next rest is short again.
const FORGET: Duration = Duration::from_secs(600);
/// Before a lane is given back again that could not be.
const RELEASE_PAUSE: Duration = Duration::from_millis(500);

/// A route of a lane.
type Route = (i16, Arc<str>);

/// What a task was.
#[derive(Debug, Clone)]
enum Task {
    Stream(Route),
    Release(i16),
}

/// What has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Landed {
    /// The sending of a route.
    Stream,
    /// The same, with more to send.
    TurnOver,
    /// The giving back of a lane.
    Released,
}

struct Held {
    claim: LaneClaim,
    lost: CancellationToken,
    /// What is being sent of it.
    routes: HashSet<Arc<str>>,
    last_error: Option<String>,
    _keeper: AbortOnDropHandle<()>,
}

/// Held lanes and resting routes.
#[derive(Default)]
pub(super) struct Lanes {
    held: HashMap<i16, Held>,
    tasks: JoinSet<Ended>,
    what: HashMap<Id, Task>,
    /// Until when, and how often in a row.
    rests: HashMap<Route, (Instant, u32)>,
}

impl Lanes {
    pub(super) fn count(&self) -> usize {
        self.held.len()
    }

    pub(super) fn holds(&self, lane: i16) -> bool {
        self.held.contains_key(&lane)
    }

    /// Whether a route may be sent as far as this replica knows.
    pub(super) fn is_resting(&self, lane: i16, route: &Arc<str>) -> bool {
        let rest = self.rests.get(&(lane, route.clone()));
        rest.is_some_and(|(until, _)| Instant::now() < *until)
    }

    /// Takes a claimed lane in and holds its lease from now on.
    pub(super) fn take(&mut self, service: &Arc<Service>, claim: LaneClaim, asked: Instant) {
        let lease = Lease {
            kind: LeaseKind::Lane,
            count: 1,
            lane: Some(claim.lane),
            topic: None,
            length: service.settings.lease,
            asked,
        };
        let (store, lost) = (service.store.clone(), CancellationToken::new());
        let token = lost.clone();
        let keeper = tokio::spawn(async move {
            lease.keep(|length| store.renew_lane(&claim, length)).await;
            token.cancel();
        });
        let held = Held {
            claim,
            lost,
            routes: HashSet::new(),
            last_error: None,
            _keeper: AbortOnDropHandle::new(keeper),
        };
        self.held.insert(claim.lane, held);
    }

    /// Sends a route of a held lane, unless that is being done, or the lane is being given back.
    pub(super) fn launch(&mut self, service: &Arc<Service>, lane: i16, route: Arc<str>, topic: Arc<str>) -> bool {
        let leaving = self
            .what
            .values()
            .any(|task| matches!(task, Task::Release(other) if *other == lane));
        let Some(held) = self.held.get_mut(&lane).filter(|_| !leaving) else {
            return false;
        };
        if !held.routes.insert(route.clone()) {
            return false;
        }
        let stream = Stream {
            claim: held.claim,
            lost: held.lost.clone(),
            route: route.clone(),
            topic,
        };
        let service = service.clone();
        let handle = self.tasks.spawn(async move { stream.run(&service).await });
        self.what.insert(handle.id(), Task::Stream((lane, route)));
        true
    }

    /// Gives lanes back of which nothing is being sent.
    pub(super) fn release_idle(&mut self, service: &Arc<Service>) {
        let leaving: HashSet<i16> = self
            .what
            .values()
            .filter_map(|task| match task {
                Task::Release(lane) => Some(*lane),
                Task::Stream(_) => None,
            })
            .collect();
        for (lane, held) in &mut self.held {
            if !held.routes.is_empty() || leaving.contains(lane) {
                continue;
            }
            let (service, claim, lost) = (service.clone(), held.claim, held.lost.clone());
            let last_error = held.last_error.take();
            let handle = self.tasks.spawn(async move {
                release(&service, &claim, &lost, last_error.as_deref()).await;
                Ended::Dry
            });
            self.what.insert(handle.id(), Task::Release(*lane));
        }
    }

    /// Waits until something has ended, for ever when nothing runs.
    pub(super) async fn landed(&mut self) -> Landed {
        match self.tasks.join_next_with_id().await {
            Some(Ok((id, ended))) => self.note(id, ended),
            Some(Err(error)) => {
                tracing::error!(name: "lane_broken", %error, "the sending of a lane broke off; its lease ends by itself");
                self.note(error.id(), Ended::Trouble("the sending broke off".to_owned()))
            }
            None => std::future::pending().await,
        }
    }

    /// Waits until everything has ended and every lane is given back.
    pub(super) async fn all_landed(&mut self, service: &Arc<Service>) {
        self.release_idle(service);
        while !self.tasks.is_empty() {
            self.landed().await;
            self.release_idle(service);
        }
    }

    fn note(&mut self, id: Id, ended: Ended) -> Landed {
        let (lane, route) = match self.what.remove(&id) {
            Some(Task::Stream(route)) => route,
            Some(Task::Release(lane)) => {
                self.held.remove(&lane);
                return Landed::Released;
            }
            None => return Landed::Stream,
        };
        if let Some(held) = self.held.get_mut(&lane) {
            held.routes.remove(&route);
            if let Ended::Trouble(what) = &ended {
                held.last_error = Some(what.clone());
            }
        }
        match ended {
            Ended::Trouble(_) => self.rest(lane, route),
            Ended::Dry | Ended::TurnOver => {
                self.rests.remove(&(lane, route));
            }
            Ended::Blocked | Ended::Lost | Ended::Stopping => {}
        }
        match ended {
            Ended::TurnOver => Landed::TurnOver,
            _ => Landed::Stream,
        }
    }

    /// Lets a route rest, longer each time in a row.
    pub(super) fn rest(&mut self, lane: i16, route: Arc<str>) {
        let now = Instant::now();
        self.rests.retain(|_, (until, _)| now < *until + FORGET);
        let times = self.rests.get(&(lane, route.clone())).map_or(0, |(_, times)| *times);
        let rest = REST.0.saturating_mul(1 << times.min(16)).min(REST.1);
        let rest = rest.mul_f64(1.0 - 0.25 * rand::random_range(0.0..1.0));
        self.rests.insert((lane, route), (now + rest, times.saturating_add(1)));
    }
}

/// Gives a lane back, for as long as it is ours to give.
async fn release(service: &Service, claim: &LaneClaim, lost: &CancellationToken, last_error: Option<&str>) {
    while !lost.is_cancelled() {
        match service.store.release_lane(claim, last_error).await {
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(name: "lane_not_released", lane = claim.lane, %error, "a lane could not be given back yet");
            }
        }
        if service.over.is_cancelled() {
            return;
        }
        tokio::time::sleep(RELEASE_PAUSE).await;
    }
}
