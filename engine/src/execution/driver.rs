//! Claims pages of runs whose code may go on, as many as there are free slots, and starts them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::executor::Shared;
use super::run_task::drive;
use super::shares::Queues;
use super::worker::jittered;
use crate::lifecycle::{ClaimPage, FleetError, RunClaim, Share, WorkRun};

/// Free slots worth a question of their own; fewer wait a moment for company.
const WORTH_ASKING: usize = 64;
/// The clocks of two processes and a timer's own grain.
const ROUNDING: Duration = Duration::from_millis(2);

pub(crate) async fn run(shared: Arc<Shared>) {
    let tasks = TaskTracker::new();
    tokio::join!(claim_pages(&shared, &tasks), claim_suspects(&shared));
    tasks.close();
    tasks.wait().await;
}

async fn claim_pages(shared: &Arc<Shared>, tasks: &TaskTracker) {
    let slots = Arc::new(Semaphore::new(shared.settings.runs));
    let mut queues = Queues::new(shared.workflows());
    let mut idle = 0u32;
    while let Some(mut free) = free_slots(shared, &slots).await {
        let page = page_of(shared, queues.deal(free.num_permits()), false);
        let asked = Instant::now();
        match claim(shared, &page).await {
            Ok(runs) => {
                let more = queues.learn(&page.shares, runs.iter().map(|(_, run)| run.queue.as_str()));
                idle = if runs.is_empty() { idle.saturating_add(1) } else { 0 };
                for (claim, run) in runs {
                    // A slot each: no more was asked for than are free.
                    let slot = free.split(1);
                    let shared = shared.clone();
                    tasks.spawn(async move {
                        drive(shared, claim, run, asked).await;
                        drop(slot);
                    });
                }
                if more {
                    continue;
                }
            }
            // What was granted all the same is recovered when its leases end.
            Err(error) => tracing::warn!(%error, "could not look for runs"),
        }
        drop(free);
        let pause = jittered(shared.settings.poll * if idle > 5 { 2 } else { 1 });
        let due = until_due(shared, queues.names(), pause).await;
        tokio::select! {
            () = shared.stopping.cancelled() => {}
            () = shared.hints.runs.notified() => {}
            () = shared.clock.pause(due) => {}
        }
    }
}

/// How long until a timer of some run ends, or until the next poll: what is started or woken may be before that.
async fn until_due(shared: &Shared, queues: &[String], poll: Duration) -> Duration {
    match shared.runs.next_due(queues).await {
        // Not before its time: a claim a moment early would find nothing and wait for the poll.
        Ok(due) => due.map_or(poll, |due| poll.min(due + ROUNDING)),
        Err(error) => {
            tracing::warn!(%error, "could not look for what is due next");
            poll
        }
    }
}

/// All free slots, when they are worth asking for or nobody has come for a while; `None`: this replica stops.
async fn free_slots(shared: &Shared, slots: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    let worth = u32::try_from((shared.settings.runs / 4).clamp(1, WORTH_ASKING)).unwrap_or(1);
    let free = tokio::select! {
        biased;
        () = shared.stopping.cancelled() => return None,
        free = slots.clone().acquire_many_owned(worth) => free,
        () = tokio::time::sleep(shared.settings.poll) => tokio::select! {
            () = shared.stopping.cancelled() => return None,
            free = slots.clone().acquire_owned() => free,
        },
    };
    let mut free = free.ok()?;
    let rest = u32::try_from(slots.available_permits()).unwrap_or(0);
    if let Ok(rest) = slots.clone().try_acquire_many_owned(rest) {
        free.merge(rest);
    }
    Some(free)
}

/// One run at a time that holders died on: if this process dies of it too, nothing else is blamed.
async fn claim_suspects(shared: &Arc<Shared>) {
    let shares: Vec<Share> = shared
        .workflows()
        .into_iter()
        .map(|queue| Share { queue, take: 1 })
        .collect();
    while !shared.stopping.is_cancelled() {
        let page = page_of(shared, shares.clone(), true);
        let asked = Instant::now();
        let found = claim(shared, &page).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "could not look for runs that holders died on");
            Vec::new()
        });
        if let Some((claim, run)) = found.into_iter().next() {
            drive(shared.clone(), claim, run, asked).await;
            continue;
        }
        tokio::select! {
            () = shared.stopping.cancelled() => {}
            () = shared.clock.pause(jittered(shared.settings.poll * 2)) => {}
        }
    }
}

fn page_of(shared: &Shared, shares: Vec<Share>, suspects: bool) -> ClaimPage {
    ClaimPage {
        claim_id: Uuid::new_v4(),
        shares,
        runnable: shared.registry.runnable(),
        suspects,
    }
}

/// Claims a page; one whose answer was lost is read by its claim id.
async fn claim(shared: &Shared, page: &ClaimPage) -> Result<Vec<(RunClaim, WorkRun)>, FleetError> {
    let claimed = shared.runs.claim_runs(page).await;
    if claimed.as_ref().is_ok_and(|runs| !runs.is_empty()) {
        fail::fail_point!("claim_runs.after_commit");
    }
    match claimed {
        Err(FleetError::Unanswered(why)) => {
            tracing::warn!(why, "no answer to a claim of runs; looking for what it got");
            shared.runs.read_claimed_runs(page).await
        }
        decided => decided,
    }
}
