//! One run with its batches: what each verb does to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use uuid::Uuid;

use super::store::{BatchState, MemoryRun, MemoryTransition};
use crate::lifecycle::{Held, Known, ManagerError, RunId};

#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) held: Held,
    pub(super) holder: Uuid,
    pub(super) lease_until: Instant,
}

#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) state: BatchState,
    pub(super) planned: bool,
    pub(super) ids: BTreeSet<i64>,
    pub(super) attempts: u32,
    /// The last claim; kept when done, so that a repeated release finds it.
    pub(super) claim: Option<Claim>,
    pub(super) token: i64,
}

pub(super) struct Run {
    pub(super) view: MemoryRun,
    pub(super) batches: BTreeMap<i32, Batch>,
    pub(super) transitions: Vec<MemoryTransition>,
    /// Grows with every claim of a batch that has no plan.
    pub(super) token: i64,
}

/// A claim that is asked for.
pub(super) struct ClaimRequest<'a> {
    pub(super) run: RunId,
    pub(super) batch: i32,
    pub(super) ids: &'a [i64],
    pub(super) claim_id: Uuid,
    pub(super) known: Known,
    pub(super) holder: Uuid,
    pub(super) lease_until: Instant,
}

impl Run {
    pub(super) fn is_active(&self) -> bool {
        matches!(self.view.status, "queued" | "running")
    }

    pub(super) fn check_active(&self) -> Result<(), ManagerError> {
        if self.is_active() {
            return Ok(());
        }
        Err(ManagerError::NotActive {
            run: self.view.request.id,
            state: self.view.status.to_owned(),
        })
    }

    pub(super) fn claim_planned(&mut self, request: &ClaimRequest<'_>) -> Result<Held, ManagerError> {
        let Some(own) = self.batches.get(&request.batch) else {
            return Err(request.refused("it is not planned"));
        };
        if !own.ids.iter().eq(request.ids) {
            return Err(ManagerError::WrongIds {
                run: request.run,
                batch: request.batch,
            });
        }
        if let Some(held) = own.held_by(request) {
            return Ok(held);
        }
        if !matches!(own.state, BatchState::Free | BatchState::Recoverable) {
            return Err(request.refused(format!("it is {}", own.state.name())));
        }
        let (was, token) = (own.state.name(), own.token + 1);
        self.put_claimed(request, true, own.attempts, token);
        self.record(Some(request.batch), Some(was), "claimed", Some(request.holder));
        Ok(Held {
            claim_id: request.claim_id,
            token,
        })
    }

    pub(super) fn claim_made(&mut self, request: &ClaimRequest<'_>) -> Result<Held, ManagerError> {
        if let Some(own) = self.batches.get(&request.batch) {
            if let Some(held) = own.held_by(request) {
                return if own.ids.iter().eq(request.ids) {
                    Ok(held)
                } else {
                    Err(request.refused("this handle holds it with other ids"))
                };
            }
            if own.state != BatchState::Recoverable {
                return Err(request.refused(format!("it is {}", own.state.name())));
            }
        }
        let in_the_way = self.batches.iter().find_map(|(number, batch)| {
            let blocks = batch.state != BatchState::Recoverable;
            let shared = request.ids.iter().find(|id| blocks && batch.ids.contains(id))?;
            Some(format!(
                "item {shared} is in batch {number}, which is {}",
                batch.state.name()
            ))
        });
        if let Some(why) = in_the_way {
            return Err(request.refused(why));
        }
        let attempts = self.take_items(request);
        self.token += 1;
        let token = self.token;
        self.put_claimed(request, false, attempts, token);
        self.record(Some(request.batch), None, "claimed", Some(request.holder));
        Ok(Held {
            claim_id: request.claim_id,
            token,
        })
    }

    /// Takes the items out of the recoverable batches that hold them; what is left over stays recoverable.
    fn take_items(&mut self, request: &ClaimRequest<'_>) -> u32 {
        let mut attempts = 0;
        let touched: Vec<i32> = self
            .batches
            .iter()
            .filter(|(number, batch)| **number == request.batch || request.ids.iter().any(|id| batch.ids.contains(id)))
            .map(|(number, _)| *number)
            .collect();
        for number in touched {
            let free_number = self.free_number();
            let Some(mut batch) = self.batches.remove(&number) else {
                continue;
            };
            self.record(Some(number), Some("recoverable"), "split", None);
            let before = batch.ids.len();
            batch.ids.retain(|id| request.ids.binary_search(id).is_err());
            if batch.ids.len() < before {
                attempts = attempts.max(batch.attempts);
            }
            if !batch.ids.is_empty() {
                let rest = if number == request.batch { free_number } else { number };
                self.batches.insert(rest, batch);
                self.record(Some(rest), None, "recoverable", Some(request.holder));
            }
        }
        attempts
    }

    fn free_number(&self) -> i32 {
        let beside = |number: i32| [number.checked_add(1), number.checked_sub(1)].into_iter().flatten();
        let mut candidates = self.batches.keys().rev().flat_map(|number| beside(*number));
        candidates
            .find(|number| !self.batches.contains_key(number))
            .unwrap_or(1)
    }

    fn put_claimed(&mut self, request: &ClaimRequest<'_>, planned: bool, attempts: u32, token: i64) {
        let held = Held {
            claim_id: request.claim_id,
            token,
        };
        let claim = Claim {
            held,
            holder: request.holder,
            lease_until: request.lease_until,
        };
        let ids = request.ids.iter().copied().collect();
        let batch = Batch {
            state: BatchState::Claimed,
            planned,
            ids,
            attempts,
            claim: Some(claim),
            token,
        };
        self.batches.insert(request.batch, batch);
    }

    /// Takes claimed batches from their holders.
    pub(super) fn hand_back(&mut self, which: impl Fn(&Claim) -> bool, deaths: u32) {
        let mut taken = Vec::new();
        for (number, batch) in &mut self.batches {
            let held = batch.state == BatchState::Claimed && batch.claim.as_ref().is_some_and(&which);
            if held {
                batch.state = BatchState::Recoverable;
                batch.attempts += deaths;
                taken.push((*number, batch.claim.take().map(|claim| claim.holder)));
            }
        }
        for (number, holder) in taken {
            self.record(Some(number), Some("claimed"), "recoverable", holder);
        }
    }

    pub(super) fn end(&mut self, status: &'static str, reason: Option<String>) {
        let was = std::mem::replace(&mut self.view.status, status);
        self.view.reason = reason;
        self.record(None, Some(was), status, None);
    }

    pub(super) fn record(
        &mut self,
        batch: Option<i32>,
        from: Option<&'static str>,
        to: &'static str,
        holder: Option<Uuid>,
    ) {
        self.transitions.push(MemoryTransition {
            batch,
            from,
            to,
            holder,
        });
    }
}

impl Batch {
    fn held_by(&self, request: &ClaimRequest<'_>) -> Option<Held> {
        let claim = self.claim.as_ref().filter(|_| self.state == BatchState::Claimed)?;
        request.known.owns(claim.held.claim_id).then_some(claim.held)
    }
}

impl ClaimRequest<'_> {
    pub(super) fn refused(&self, why: impl Into<String>) -> ManagerError {
        ManagerError::NotClaimable {
            run: self.run,
            batch: self.batch,
            why: why.into(),
        }
    }
}
