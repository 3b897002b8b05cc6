//! Keeps the leases of a process: one renewal for all of them, with the progress to save; and looks out for stops.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{Interval, MissedTickBehavior};

use super::book::{HeldBatch, HeldRun};
use super::executor::Shared;
use super::presence::Presence;
use crate::lifecycle::{NotRenewed, Renewal};
use crate::telemetry::closed::LeaseKind;
use crate::telemetry::meters;

/// How often to ask whether a run was asked to stop, when nobody hints at it.
const STOP_POLL: Duration = Duration::from_secs(1);
/// How often code that is held looks whether a child that it waits for is over, when nobody says so: who ended it may have died
/// before that, and the sweep wakes only who sleeps.
const CHILD_POLL: Duration = Duration::from_secs(30);
/// A renewal that failed is asked for again so much sooner than the next is due: all that is held here hangs on it.
const RETRIES: u32 = 5;
/// A full window saves progress at once, but not more often than this.
const SAVE_AT_MOST_EVERY: Duration = Duration::from_millis(50);

/// Each duty has a loop of its own: leases are not to end because a heartbeat, or a look for stops, is slow. Answers how
/// the replica is present, so that whoever ends it can say that it leaves.
pub(crate) async fn run(shared: Arc<Shared>) -> Presence {
    let ((), presence, ()) = tokio::join!(keep_leases(&shared), keep_alive(&shared), watch_stops(&shared));
    presence
}

pub(super) fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Renewals and saves take turns: what is written later holds more progress, never less.
async fn keep_leases(shared: &Shared) {
    let mut renew = every(shared.settings.renew);
    loop {
        tokio::select! {
            // A renewal that is due goes before a save: a window may be full all the time.
            biased;
            () = shared.over.cancelled() => break,
            _ = renew.tick() => {
                let answered = renew_all(shared, &shared.book.batches(), &shared.book.runs()).await;
                if !answered {
                    renew.reset_after(shared.settings.renew / RETRIES);
                }
                shared.forget_unused();
                shared.hints.leases.beat();
            }
            () = shared.window.full.notified() => {
                renew_all(shared, &with_progress(shared), &[]).await;
                tokio::time::sleep(SAVE_AT_MOST_EVERY).await;
                if shared.window.waiting() > 0 {
                    shared.window.full.notify_one();
                }
            }
        }
    }
}

async fn keep_alive(shared: &Shared) -> Presence {
    let mut presence = Presence::default();
    let mut beats = every(shared.settings.renew);
    loop {
        tokio::select! {
            () = shared.over.cancelled() => break,
            _ = beats.tick() => {
                presence.beat(&*shared.fleet, shared.heartbeat()).await;
            }
        }
    }
    presence
}

async fn watch_stops(shared: &Shared) {
    let (mut stops, mut children) = (every(STOP_POLL), every(CHILD_POLL));
    loop {
        tokio::select! {
            () = shared.over.cancelled() => break,
            _ = stops.tick() => halt_stopped(shared).await,
            () = shared.hints.stops.notified() => halt_stopped(shared).await,
            _ = children.tick() => shared.book.poke_parents(),
        }
    }
}

fn with_progress(shared: &Shared) -> Vec<Arc<HeldBatch>> {
    shared
        .book
        .batches()
        .into_iter()
        .filter(|held| held.tracker.progress().is_some())
        .collect()
}

/// Whether the store said which are renewed.
async fn renew_all(shared: &Shared, batches: &[Arc<HeldBatch>], runs: &[Arc<HeldRun>]) -> bool {
    if batches.is_empty() && runs.is_empty() {
        return true;
    }
    // From before the request: what the database grants starts later, so ours ends earlier.
    let trusted_until = Instant::now() + shared.settings.trusted();
    let progress: Vec<Option<(Vec<u8>, usize)>> = batches.iter().map(|held| held.tracker.progress()).collect();
    let renewals: Vec<Renewal> = batches
        .iter()
        .zip(&progress)
        .map(|(held, progress)| Renewal {
            claim: held.claim,
            delivered_bits: progress.as_ref().map(|(bits, _)| bits.clone()),
        })
        .collect();
    let claims: Vec<_> = runs.iter().map(|held| held.claim).collect();
    let not_renewed = match shared.fleet.renew_leases(&renewals, &claims).await {
        Ok(not_renewed) => not_renewed,
        Err(error) => {
            // Leases are trusted until their time; the next renewal may come through.
            tracing::warn!(name: "leases_not_renewed", batches = batches.len(), runs = runs.len(), %error, "leases could not be renewed; it is tried again");
            return false;
        }
    };
    meters().leases_renewed(LeaseKind::Batch, batches.len() - not_renewed.batches.len());
    meters().leases_renewed(LeaseKind::Run, runs.len() - not_renewed.runs.len());
    for (held, progress) in batches.iter().zip(progress) {
        match not_renewed.batches.get(&held.claim) {
            // A batch that was finished meanwhile is judged by its own finish; telling it changes nothing.
            Some(NotRenewed::Gone) => held.lease.lose(),
            // Somebody works on the row, most likely our own finish: neither extended nor saved, and not lost.
            Some(NotRenewed::Busy) => {}
            None => {
                held.lease.renewed(trusted_until);
                if let Some((_, count)) = progress {
                    held.tracker.progress_saved(count);
                }
            }
        }
    }
    for held in runs {
        match not_renewed.runs.get(&held.claim) {
            Some(NotRenewed::Gone) => held.lease.lose(),
            Some(NotRenewed::Busy) => {}
            None => held.lease.renewed(trusted_until),
        }
    }
    true
}

/// Runs asked to stop send nothing more from here, and what others did to a run reaches whoever runs its code.
async fn halt_stopped(shared: &Shared) {
    let (batches, runs) = (shared.book.batches(), shared.book.runs());
    let held: BTreeSet<_> = batches
        .iter()
        .map(|held| held.claim.run)
        .chain(runs.iter().map(|held| held.claim.run))
        .collect();
    if held.is_empty() {
        return;
    }
    let poked = match shared.runs.poked_runs(&held.into_iter().collect::<Vec<_>>()).await {
        Ok(poked) => poked,
        Err(error) => {
            return tracing::warn!(name: "looking_failed", kind = "stops", %error, "work could not be looked for");
        }
    };
    let poked: HashMap<_, _> = poked.iter().map(|poked| (poked.run, poked)).collect();
    for held in batches {
        if poked.get(&held.claim.run).is_some_and(|poked| poked.halted) {
            held.lease.halt();
        }
    }
    for held in runs {
        if let Some(poked) = poked.get(&held.claim.run) {
            held.heard(poked);
        }
    }
}
