//! Claims pages of runs whose code may go on, as many as there are free slots, and starts them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::executor::Shared;
use super::limited::{self, Got};
use super::queues::{refresh_changed, refresh_old};
use super::run_task::drive;
use super::shares::{MOST_QUEUES, Queues};
use super::suspects;
use super::worker::jittered;
use crate::lifecycle::{ClaimPage, FleetError, RunClaim, Share, WorkRun};

/// Free slots worth a question of their own; fewer wait a moment for company.
const WORTH_ASKING: usize = 64;
/// Looks that found nothing, after which less is asked.
const CALM_LOOKS: u32 = 5;
/// Polls from one look to the next then, where somebody would ring.
const CALM_POLLS: u32 = 5;
/// The clocks of two processes and a timer's own grain.
const ROUNDING: Duration = Duration::from_millis(2);

pub(crate) async fn run(shared: Arc<Shared>) {
    tokio::join!(claim_pages(&shared), suspects::claim_suspects(&shared));
    shared.run_tasks.close();
    shared.run_tasks.wait().await;
}

async fn claim_pages(shared: &Arc<Shared>) {
    let mut queues = Queues::new(shared.workflows());
    let mut dues = Dues::default();
    let mut idle = 0u32;
    let mut more = false;
    while let Some(mut free) = free_slots(shared, more, queues.count()).await {
        if !refresh_changed(shared).await {
            drop(free);
            pause(shared, jittered(shared.settings.poll)).await;
            continue;
        }
        let served = shared.queues.served(shared.workflows());
        queues.serve(worth_asking(shared, &served).await);
        let shares = queues.deal(free.num_permits());
        let got = look(shared, shares.clone()).await;
        more = queues.learn(&shares, got.runs.iter().map(|(_, run, _)| run.queue.as_str()));
        for share in &shares {
            shared.short_queues.learn(&share.queue, !queues.is_full(&share.queue));
        }
        idle = if got.runs.is_empty() { idle.saturating_add(1) } else { 0 };
        for (claim, run, asked) in got.runs {
            // A slot each: no more was asked for than are free.
            let slot = free.split(1);
            let here = shared.hints.local.begins(claim.run);
            let shared = shared.clone();
            shared.run_tasks.clone().spawn(async move {
                let is_limited = !shared.queues.is_open(&run.queue);
                drive(shared.clone(), claim, run, asked).await;
                drop((slot, here));
                if is_limited {
                    // Its place is free for another.
                    shared.hints.runs.notify_one();
                }
            });
        }
        drop(free);
        refresh_old(shared).await;
        // What waits in a queue that is new here is looked for at once.
        if more || shared.queues.served(shared.workflows()) != served {
            continue;
        }
        // What was rung of a queue that is not known yet is found by the next look.
        let listening = shared.hints.listening.load(Ordering::Relaxed) && !shared.queues.is_rung();
        let pause = jittered(poll_after(shared.settings.poll, idle, listening));
        // Asked in vain again and again, it is asked more and more rarely.
        let again = got.again.map(|again| again * (1 << idle.saturating_sub(1).min(6)));
        let pause = again.map_or(pause, |again| again.min(pause));
        let due = dues.until_next(shared, &served, pause, idle).await;
        shared.rests.store(due > shared.settings.poll, Ordering::Relaxed);
        tokio::select! {
            () = shared.stopping.cancelled() => {}
            () = shared.hints.runs.notified() => {
                dues.forget();
                shared.queues.ring();
            }
            () = shared.clock.pause(due) => {}
        }
        shared.rests.store(false, Ordering::Relaxed);
    }
}

/// Until the next look after so many in vain: rarely where somebody would ring; who polls alone is promised the poll.
fn poll_after(poll: Duration, idle: u32, listening: bool) -> Duration {
    if idle > CALM_LOOKS && listening {
        poll * CALM_POLLS
    } else {
        poll
    }
}

/// Of more queues than one question takes, those in which something waits.
async fn worth_asking(shared: &Shared, served: &[String]) -> Vec<String> {
    if served.len() <= MOST_QUEUES {
        return served.to_vec();
    }
    shared.runs.waiting_queues(served).await.unwrap_or_else(|error| {
        tracing::warn!(name: "looking_failed", kind = "queues", %error, "could not look into the queues");
        served.to_vec()
    })
}

/// Claims what is shared out: a page of the queues without limits, then of the others.
async fn look(shared: &Shared, shares: Vec<Share>) -> Got {
    let (open, limited): (Vec<_>, Vec<_>) = shares
        .into_iter()
        .partition(|share| shared.queues.is_open(&share.queue));
    let mut got = Got::default();
    if !limited.is_empty() {
        got = limited::claim(shared, limited).await;
    }
    if !open.is_empty() {
        let asked = Instant::now();
        match claim(shared, &page_of(shared, open, false)).await {
            Ok(runs) => got
                .runs
                .extend(runs.into_iter().map(|(claim, run)| (claim, run, asked))),
            // What was granted all the same is recovered when its leases end.
            Err(error) => tracing::warn!(name: "looking_failed", kind = "runs", %error, "could not look for runs"),
        }
    }
    got
}

/// What is known of instants to come.
#[derive(Default)]
struct Dues {
    /// Looks for which nothing is due soon.
    calm: u32,
}

impl Dues {
    /// How long until a timer of some run ends, or until the next poll: what is started or woken may be before that. Where
    /// nothing is due for long it is not asked for with every look, unless somebody rings.
    async fn until_next(&mut self, shared: &Shared, queues: &[String], poll: Duration, idle: u32) -> Duration {
        if idle > CALM_LOOKS && self.calm > 0 {
            self.calm -= 1;
            return poll;
        }
        let due = match shared.runs.next_due(queues).await {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(name: "looking_failed", kind = "due", %error, "could not look for what is due next");
                return poll;
            }
        };
        let is_far = due.is_none_or(|due| due > shared.settings.poll * CALM_POLLS * (CALM_LOOKS + 1));
        self.calm = if is_far { CALM_LOOKS } else { 0 };
        // Not before its time: a claim a moment early would find nothing and wait for the poll.
        due.map_or(poll, |due| poll.min(due + ROUNDING))
    }

    fn forget(&mut self) {
        self.calm = 0;
    }
}

/// Free slots to ask for. Where more waits than was asked for, all that are free, once they are worth a question: so it is
/// soon known that nothing more waits. Else some of them, and one for each queue if there are: the others are there for runs
/// that are started here meanwhile, and begin at once. `None`: this replica stops.
async fn free_slots(shared: &Shared, more: bool, queues: usize) -> Option<OwnedSemaphorePermit> {
    let slots = &shared.slots;
    let worth = u32::try_from((shared.settings.runs / 4).clamp(1, WORTH_ASKING)).unwrap_or(1);
    let least = if more { worth } else { 1 };
    let free = tokio::select! {
        biased;
        () = shared.stopping.cancelled() => return None,
        free = slots.clone().acquire_many_owned(least) => free,
        () = tokio::time::sleep(shared.settings.poll) => tokio::select! {
            () = shared.stopping.cancelled() => return None,
            free = slots.clone().acquire_owned() => free,
        },
    };
    let mut free = free.ok()?;
    let left = slots.available_permits();
    let some = (left / 4).max(queues.saturating_sub(1)).min(left);
    let rest = if more { left } else { some };
    if let Ok(rest) = slots.clone().try_acquire_many_owned(u32::try_from(rest).unwrap_or(0)) {
        free.merge(rest);
    }
    Some(free)
}

/// Waits so long, or until this replica stops.
pub(super) async fn pause(shared: &Shared, time: Duration) {
    tokio::select! {
        () = shared.stopping.cancelled() => {}
        () = shared.clock.pause(time) => {}
    }
}

pub(super) fn page_of(shared: &Shared, shares: Vec<Share>, suspects: bool) -> ClaimPage {
    ClaimPage {
        claim_id: Uuid::new_v4(),
        shares,
        runnable: shared.registry.runnable(),
        suspects,
    }
}

/// Claims a page; one whose answer was lost is read by its claim id.
pub(super) async fn claim(shared: &Shared, page: &ClaimPage) -> Result<Vec<(RunClaim, WorkRun)>, FleetError> {
    let claimed = shared.runs.claim_runs(page).await;
    if claimed.as_ref().is_ok_and(|runs| !runs.is_empty()) {
        fail::fail_point!("claim_runs.after_commit");
    }
    claimed_or_found(shared, page, claimed).await
}

/// What a claim got, also when its answer was lost.
pub(super) async fn claimed_or_found(
    shared: &Shared,
    page: &ClaimPage,
    claimed: Result<Vec<(RunClaim, WorkRun)>, FleetError>,
) -> Result<Vec<(RunClaim, WorkRun)>, FleetError> {
    match claimed {
        // It may have been granted all the same: what is read behind it can fail too.
        Err(FleetError::Unanswered(why) | FleetError::NotNow(why)) => {
            tracing::warn!(name: "claim_unanswered", kind = "runs", error = why, "no answer to a claim of runs; looking for what it got");
            shared.runs.read_claimed_runs(page).await
        }
        decided => decided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_be_rung_never_looks_more_rarely_than_told() {
        let poll = Duration::from_millis(200);
        assert_eq!(poll_after(poll, CALM_LOOKS, true), poll);
        assert_eq!(poll_after(poll, CALM_LOOKS + 1, true), poll * CALM_POLLS);
        assert_eq!(poll_after(poll, u32::MAX, false), poll);
    }
}
