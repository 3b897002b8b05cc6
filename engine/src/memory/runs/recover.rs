//! Leases, and taking runs from holders that died.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Runs;
use super::run::{Ready, Run, Status};
use crate::lifecycle::RunClaim;

/// Deaths of holders in a row after which a run is claimed apart.
pub(super) const SUSPECT_AFTER: u16 = 2;
/// Deaths after which a run's code is set aside; twice as many where its holders had lived with it.
const MOST_DEATHS: u16 = 5;

impl Runs {
    pub(super) fn renew(&mut self, claims: &[RunClaim], lease_until: DateTime<Utc>) -> Vec<RunClaim> {
        let mut gone = Vec::new();
        for claim in claims {
            match self.held(claim).and_then(|run| run.holder.as_mut()) {
                Some(holder) => holder.lease_until = lease_until,
                None => gone.push(*claim),
            }
        }
        gone
    }

    pub(super) fn acquit(&mut self, claim: &RunClaim) -> bool {
        let Some(run) = self.held(claim) else { return false };
        if let Some(holder) = run.holder.as_mut() {
            holder.alone = false;
        }
        true
    }

    pub(super) fn end_leases(&mut self, claim_id: Option<Uuid>, now: DateTime<Utc>) -> usize {
        let batches = self.by_id.values_mut().flat_map(|run| run.planned.values_mut());
        let batch_holders = batches.filter_map(|batch| batch.holder.as_mut());
        for holder in batch_holders.filter(|holder| claim_id.is_none_or(|claim_id| holder.claim_id == claim_id)) {
            holder.lease_until = holder.lease_until.min(now);
        }
        let holders = self.by_id.values_mut().filter_map(|run| run.holder.as_mut());
        let dead = holders.filter(|holder| claim_id.is_none_or(|claim_id| holder.claim_id == claim_id));
        dead.map(|holder| holder.lease_until = holder.lease_until.min(now))
            .count()
    }

    pub(super) fn recover(&mut self, now: DateTime<Utc>) -> u64 {
        let ended = |run: &&Run| run.holder.is_some_and(|holder| holder.lease_until <= now);
        let stale: Vec<_> = self.by_id.values().filter(ended).map(Run::id).collect();
        for run in &stale {
            let ready = self.ready(now);
            if let Some(run) = self.by_id.get_mut(run) {
                run.recover(ready);
            }
        }
        stale.len() as u64
    }
}

impl Run {
    /// A run that recorded something under its last claim begins anew: it is not what kills whoever claims it.
    fn recover(&mut self, ready: Ready) {
        let was = self.status;
        let alone = self.holder.is_some_and(|holder| holder.alone);
        let progressed = self.steps.values().any(|step| step.claim_token == self.token);
        let deaths = self.attempts.saturating_add(1);
        let most = if alone { MOST_DEATHS } else { MOST_DEATHS * 2 };
        let guilty = !progressed && was == Status::Running && deaths >= most;
        self.attempts = if progressed { 1 } else { deaths };
        self.ready = Some(ready).filter(|_| !guilty);
        if guilty {
            self.status = Status::Quarantined;
            self.reason = Some(format!("its code killed {deaths} replicas in a row"));
        }
        self.end_claim(was, self.status.as_str(), Some("lease ended".to_owned()));
    }
}
