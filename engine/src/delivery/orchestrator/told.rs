//! What is told of direct commands: the counters that are there anyway, read when somebody looks.

use std::sync::Arc;

use super::counters::DirectStats;
use super::shared::Shared;
use crate::telemetry::catalogue::{DIRECT_COMMANDS, DIRECT_IN_FLIGHT, DIRECT_STALLED, DIRECT_STORED, DIRECT_WAITING};
use crate::telemetry::closed::{Closed, DirectEnd, DirectQueue, StoredWhy};
use crate::telemetry::{Watching, meters};

type Read = fn(&DirectStats) -> f64;

/// Tells it for as long as the answer lives.
pub(super) fn watch(shared: &Arc<Shared>) -> Vec<Watching> {
    let stats = |read: Read| {
        let shared = shared.clone();
        move || Some(read(&shared.stats()))
    };
    let ends: [(DirectEnd, Read); 6] = [
        (DirectEnd::Accepted, |stats| stats.accepted as f64),
        (DirectEnd::Invalid, |stats| stats.invalid as f64),
        (DirectEnd::NotAccepted, |stats| stats.not_accepted as f64),
        (DirectEnd::Delivered, |stats| stats.delivered as f64),
        (DirectEnd::Confirmed, |stats| stats.confirmed as f64),
        (DirectEnd::Unplaced, |stats| stats.unplaced as f64),
    ];
    let ends = ends.map(|(end, read)| meters().watch(&DIRECT_COMMANDS, &[end.text()], stats(read)));
    let stored = StoredWhy::VALUES.iter().map(|why| {
        let shared = shared.clone();
        meters().watch(&DIRECT_STORED, &[why], move || Some(stored(&shared.stats(), why)))
    });
    let states = [
        meters().watch(
            &DIRECT_WAITING,
            &[DirectQueue::Send.text()],
            stats(|stats| stats.queued as f64),
        ),
        meters().watch(
            &DIRECT_WAITING,
            &[DirectQueue::Store.text()],
            stats(|stats| stats.spilled as f64),
        ),
        meters().watch(&DIRECT_IN_FLIGHT, &[], stats(|stats| stats.in_flight as f64)),
        meters().watch(&DIRECT_STALLED, &[], stats(|stats| f64::from(stats.stalled))),
    ];
    ends.into_iter().chain(stored).chain(states).collect()
}

/// How many were stored for that reason, from the first look on: one that comes into being with what it counts would hide the
/// first of it. Several codes have one label.
fn stored(stats: &DirectStats, why: &str) -> f64 {
    let of = stats
        .stored
        .iter()
        .filter(|(code, _)| StoredWhy::of(code).text() == why);
    of.map(|(_, rows)| rows).sum::<u64>() as f64
}
