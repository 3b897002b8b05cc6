//! Claims from queues that have limits: one after the other, each only when something waits in it.

use std::time::{Duration, Instant};

use super::driver::{claimed_or_found, page_of};
use super::executor::Shared;
use crate::lifecycle::{ClaimPage, FleetError, LimitedClaim, RunClaim, Share, WorkRun};

/// What limited queues gave.
#[derive(Default)]
pub(super) struct Got {
    /// The runs, and from before which instant their leases are trusted.
    pub(super) runs: Vec<(RunClaim, WorkRun, Instant)>,
    /// When asking again may get more by itself.
    pub(super) again: Option<Duration>,
}

/// Claims from those of the queues in which something waits, as much as is shared out.
pub(super) async fn claim(shared: &Shared, shares: Vec<Share>) -> Got {
    let mut got = Got::default();
    let names: Vec<String> = shares.iter().map(|share| share.queue.clone()).collect();
    let waiting = match shared.runs.waiting_queues(&names).await {
        Ok(waiting) => waiting,
        Err(error) => {
            tracing::warn!(name: "looking_failed", kind = "limited_queues", %error, "could not look into the queues that have limits");
            return got;
        }
    };
    for share in shares.into_iter().filter(|share| waiting.contains(&share.queue)) {
        let queue = share.queue.clone();
        let asked = Instant::now();
        match claim_of(shared, &page_of(shared, vec![share], false)).await {
            Ok(claimed) => {
                let runs = claimed.runs.into_iter().map(|(claim, run)| (claim, run, asked));
                got.runs.extend(runs);
                got.again = [got.again, claimed.again].into_iter().flatten().min();
            }
            Err(error) => {
                tracing::warn!(name: "looking_failed", kind = "limited_runs", %error, queue, "could not look for runs of a queue that has limits")
            }
        }
    }
    got
}

/// Claims a page of one queue; one whose answer was lost is read by its claim id.
pub(super) async fn claim_of(shared: &Shared, page: &ClaimPage) -> Result<LimitedClaim, FleetError> {
    match shared.runs.claim_limited_runs(page).await {
        Ok(claimed) => Ok(claimed),
        Err(error) => Ok(LimitedClaim {
            runs: claimed_or_found(shared, page, Err(error)).await?,
            again: None,
        }),
    }
}
