//! The queue with limits as the reference has it: places, tokens and turns.

use std::collections::BTreeMap;

use lockgate::lifecycle::{ClaimPage, RunClaim, RunId};
use lockgate_tests::conformance::runs::{RunSeen, Wake};

use crate::ops::{LimitsOp, RATE_MORE};
use crate::run::{Run, Turn};

/// What is set, and the tokens that there were in some unit of time.
#[derive(Debug)]
pub struct Gate {
    pub limits: LimitsOp,
    tokens: f64,
    counted_in: u64,
}

impl Gate {
    /// Other limits keep the tokens that there are, as far as they may be saved up.
    pub fn new(limits: LimitsOp, before: Option<&Self>, now: u64) -> Self {
        let burst = limits.rate.map_or(0.0, |(_, burst)| f64::from(burst));
        let left_over = before.and_then(|before| before.allowance(now));
        Self {
            limits,
            tokens: left_over.unwrap_or(burst).min(burst),
            counted_in: now,
        }
    }

    /// None: as many as one likes.
    fn allowance(&self, now: u64) -> Option<f64> {
        let (rate, burst) = self.limits.rate?;
        let passed = (now - self.counted_in) as f64;
        Some(f64::from(burst).min(self.tokens + (f64::from(rate) + RATE_MORE) * passed))
    }

    /// Takes a token for each; answers whether there were no more.
    pub fn spend(&mut self, claims: usize, now: u64) -> bool {
        let Some(allowance) = self.allowance(now) else {
            return false;
        };
        let whole = (allowance + 1e-6).max(0.0) as usize;
        assert!(claims <= whole, "{claims} for {allowance} tokens");
        (self.tokens, self.counted_in) = (allowance - claims as f64, now);
        claims == whole
    }
}

/// How many have a place, by tenant and by key.
#[derive(Debug, Default)]
pub struct Places {
    pub all: usize,
    of_tenant: BTreeMap<Option<String>, usize>,
    of_key: BTreeMap<String, usize>,
}

impl Places {
    pub fn of<'a>(runs: impl Iterator<Item = &'a Run>) -> Self {
        let mut places = Self::default();
        for run in runs.filter(|run| run.has_place()) {
            let (tenant, key) = run.turn.clone();
            places.all += 1;
            *places.of_tenant.entry(tenant).or_default() += 1;
            if let Some(key) = key {
                *places.of_key.entry(key).or_default() += 1;
            }
        }
        places
    }

    fn of_tenant(&self, turn: &Turn) -> usize {
        self.of_tenant.get(&turn.0).copied().unwrap_or(0)
    }

    /// Never more than may, but for those that were there before the limit.
    pub fn check(&self, before: &Self, limits: LimitsOp) {
        let fits =
            |count: usize, most: Option<u8>, were: usize| most.is_none_or(|most| count <= usize::from(most).max(were));
        assert!(
            fits(self.all, limits.most, before.all),
            "{before:?} {self:?} {limits:?}"
        );
        for (key, count) in &self.of_key {
            let were = before.of_key.get(key).copied().unwrap_or(0);
            assert!(fits(*count, limits.of_a_key, were), "{before:?} {self:?} {limits:?}");
        }
    }

    /// In a fair queue nobody has a turn before those with fewer under way.
    pub fn check_turns(&self, fresh: &[Turn], left: &[Turn]) {
        for (one, other) in fresh.iter().flat_map(|one| left.iter().map(move |other| (one, other))) {
            let (served, waiting) = (self.of_tenant(one), self.of_tenant(other));
            assert!(served <= waiting + 1, "{one:?} had a turn before {other:?}: {self:?}");
        }
    }
}

/// Whose turn it could have been beside those that were claimed: no limit of a key holds them.
pub fn left_out(runs: &BTreeMap<RunId, Run>, page: &ClaimPage, after: &[RunSeen], limits: LimitsOp) -> Vec<Turn> {
    let waits = |seen: &&RunSeen| seen.claim.is_none() && seen.wake == Wake::Due;
    // Its code is here, as a suspect or not.
    let here = |seen: &&RunSeen| seen.code_version.is_none_or(|version| version <= 2);
    let asked = |seen: &&RunSeen| (seen.attempts >= 2) == page.suspects;
    let left = after.iter().filter(waits).filter(here).filter(asked);
    let could = left.filter_map(|seen| {
        let run = runs
            .get(&seen.run)
            .filter(|run| run.limited && run.may_be_claimed() && !run.follows)?;
        (run.turn.1.is_none() || limits.of_a_key.is_none()).then(|| run.turn.clone())
    });
    could.collect()
}

/// Of these claims the ones that got a place.
pub fn fresh(runs: &BTreeMap<RunId, Run>, claims: &[RunClaim]) -> Vec<Turn> {
    let of = claims.iter().filter_map(|claim| runs.get(&claim.run));
    let fresh = of.filter(|run| run.place != Some(true));
    fresh.map(|run| run.turn.clone()).collect()
}
