//! Keeps the leases of a process: one renewal for all of them, with the progress to save; and looks out for stops.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::book::{HeldBatch, HeldRun};
use super::executor::Shared;
use crate::lifecycle::Renewal;

/// How often to ask whether a run was asked to stop, when nobody hints at it.
const STOP_POLL: Duration = Duration::from_secs(1);
/// A full window saves progress at once, but not more often than this.
const SAVE_AT_MOST_EVERY: Duration = Duration::from_millis(50);

pub(crate) async fn run(shared: Arc<Shared>) {
    let mut renew = tokio::time::interval(shared.settings.renew);
    renew.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stops = tokio::time::interval(STOP_POLL);
    stops.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shared.over.cancelled() => break,
            _ = renew.tick() => {
                renew_all(&shared, &shared.book.batches(), &shared.book.runs()).await;
                beat(&shared).await;
                shared.forget_idle();
            }
            () = shared.window.full.notified() => {
                renew_all(&shared, &with_progress(&shared), &[]).await;
                tokio::time::sleep(SAVE_AT_MOST_EVERY).await;
                if shared.window.waiting() > 0 {
                    shared.window.full.notify_one();
                }
            }
            _ = stops.tick() => halt_stopped(&shared).await,
            () = shared.hints.stops.notified() => halt_stopped(&shared).await,
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

async fn renew_all(shared: &Shared, batches: &[Arc<HeldBatch>], runs: &[Arc<HeldRun>]) {
    if batches.is_empty() && runs.is_empty() {
        return;
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
    let lost = match shared.fleet.renew_leases(&renewals, &claims).await {
        Ok(lost) => lost,
        Err(error) => {
            // Leases are trusted until their time; the next renewal may come through.
            tracing::warn!(batches = batches.len(), runs = runs.len(), %error, "leases were not renewed");
            return;
        }
    };
    for (held, progress) in batches.iter().zip(progress) {
        if lost.batches.contains(&held.claim) {
            // A batch that was finished meanwhile is judged by its own finish; telling it changes nothing.
            held.lease.lose();
            continue;
        }
        held.lease.renewed(trusted_until);
        if let Some((_, count)) = progress {
            held.tracker.progress_saved(count);
        }
    }
    for held in runs {
        if lost.runs.contains(&held.claim) {
            held.lease.lose();
        } else {
            held.lease.renewed(trusted_until);
        }
    }
}

async fn beat(shared: &Shared) {
    if let Err(error) = shared.fleet.heartbeat(&shared.heartbeat()).await {
        tracing::warn!(replica = %shared.settings.replica, %error, "no heartbeat");
    }
}

/// Runs asked to stop send nothing more from here.
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
    match shared.fleet.halted_runs(&held.into_iter().collect::<Vec<_>>()).await {
        Ok(halted) => {
            batches
                .iter()
                .filter(|held| halted.contains(&held.claim.run))
                .for_each(|held| held.lease.halt());
            runs.iter()
                .filter(|held| halted.contains(&held.claim.run))
                .for_each(|held| held.lease.halt());
        }
        Err(error) => tracing::warn!(%error, "could not look for stopped runs"),
    }
}
