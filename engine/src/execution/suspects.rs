//! Runs that holders died on: claimed apart, so that it shows which of them it is.

use std::sync::Arc;
use std::time::Instant;

use tokio::task::{JoinError, JoinHandle};

use super::driver::{claim, page_of, pause};
use super::executor::Shared;
use super::limited;
use super::run_task::drive;
use super::worker::jittered;
use crate::lifecycle::{FleetError, RunClaim, Share, WorkRun};

/// Polls between looks for runs that holders died on.
const SUSPECT_POLLS: u32 = 10;

/// One at a time is on trial: if this process dies of it too, nothing else is blamed.
pub(super) async fn claim_suspects(shared: &Arc<Shared>) {
    while !shared.stopping.is_cancelled() {
        if !shared.queues.is_read() {
            pause(shared, jittered(shared.settings.poll)).await;
            continue;
        }
        let asked = Instant::now();
        let found = suspect(shared).await.unwrap_or_else(|error| {
            tracing::warn!(name: "looking_failed", kind = "suspects", %error, "could not look for runs that holders died on");
            None
        });
        if let Some((claim, run)) = found {
            // In a task of its own: what it may do to that it does not do to whoever looks for the next one.
            let driven = shared.run_tasks.spawn(drive(shared.clone(), claim, run, asked));
            try_one(shared, claim, driven).await;
            continue;
        }
        pause(shared, jittered(shared.settings.poll * SUSPECT_POLLS)).await;
    }
}

/// Waits until the run is let go of, or its holder has lived with it for a lease: then it goes on as any other, in a slot as
/// soon as there is one, and the next may be tried. Otherwise a thousand runs of long steps would go one by one for days.
async fn try_one(shared: &Arc<Shared>, claim: RunClaim, mut driven: JoinHandle<()>) {
    loop {
        tokio::select! {
            biased;
            ended = &mut driven => return note(claim, ended),
            () = tokio::time::sleep(shared.settings.lease) => {}
        }
        match shared.runs.acquit_run(&claim).await {
            Ok(true) => break,
            // It is let go of this moment, or was taken over.
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(name: "run_not_acquitted", run = %claim.run, %error, "could not take the suspicion from a run; tried again in a lease");
            }
        }
    }
    tokio::select! {
        biased;
        ended = &mut driven => note(claim, ended),
        slot = shared.slots.clone().acquire_owned() => {
            shared.run_tasks.spawn(async move {
                note(claim, driven.await);
                drop(slot);
            });
        }
    }
}

fn note(claim: RunClaim, ended: Result<(), JoinError>) {
    if ended.is_err() {
        let reason = "its task panicked";
        tracing::warn!(name: "run_dropped", run = %claim.run, reason, "a run that holders died on is dropped");
    }
}

/// Claims one of them, if there is any; there hardly ever is.
async fn suspect(shared: &Shared) -> Result<Option<(RunClaim, WorkRun)>, FleetError> {
    let suspects = shared.runs.suspect_queues().await?;
    let served = shared.queues.served(shared.workflows());
    let shares = suspects.into_iter().filter(|queue| served.contains(queue));
    let shares = shares.map(|queue| Share { queue, take: 1 });
    let (open, limited): (Vec<_>, Vec<_>) = shares.partition(|share| shared.queues.is_open(&share.queue));
    if !open.is_empty() {
        let found = claim(shared, &page_of(shared, open, true)).await?;
        if let Some(found) = found.into_iter().next() {
            return Ok(Some(found));
        }
    }
    for share in limited {
        let claimed = limited::claim_of(shared, &page_of(shared, vec![share], true)).await?;
        if let Some(found) = claimed.runs.into_iter().next() {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
