//! Who could take a run, and whom they cannot send to.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::why::{Cause, RunFacts};

/// What was read of one live replica that executes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ReplicaFacts {
    /// The replica.
    pub replica: Uuid,
    /// It takes no new work.
    pub draining: bool,
    /// Whose code it has.
    pub workflows: Vec<String>,
    /// Of each the first and the last version that it replays; a binary of before does not say.
    #[serde(default)]
    pub replays: Option<BTreeMap<String, [u32; 2]>>,
    /// Items sent whose outcome is not committed.
    pub window_used: i32,
    /// Bound of that; 0: it has no brokers.
    pub window_size: i32,
    /// Breakers that are not closed.
    pub breakers: Vec<Breaker>,
}

/// A breaker that is not closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// Its topic.
    pub topic: String,
    /// `open` or `half_open`.
    pub state: String,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
    /// Why.
    pub reason: Option<String>,
}

/// Nobody can take it, or nobody can send.
pub(super) fn causes(run: &RunFacts, replicas: &[ReplicaFacts]) -> Vec<Cause> {
    let workflow = run.workflow.clone();
    let able = with_code(run, replicas);
    match run.code_version {
        Some(version) if able.is_empty() && knows(run, replicas).next().is_some() => {
            return vec![Cause::NoVersion {
                workflow,
                version,
                replayed: replayed(run, replicas),
            }];
        }
        _ if able.is_empty() => return vec![Cause::NoReplica { workflow }],
        _ => {}
    }
    if able.iter().all(|replica| replica.draining) {
        return vec![Cause::AllDraining {
            workflow,
            replicas: able.len(),
        }];
    }
    let ready = able.iter().filter(|replica| !replica.draining);
    if run.fan_out_open && ready.clone().all(|replica| replica.window_size == 0) {
        return vec![Cause::NoBrokers {
            workflow,
            replicas: ready.count(),
        }];
    }
    let mut by_topic: BTreeMap<&str, (Breaker, usize)> = BTreeMap::new();
    for breaker in able
        .iter()
        .flat_map(|replica| &replica.breakers)
        .filter(|breaker| breaker.state != "closed")
    {
        let entry = by_topic.entry(&breaker.topic).or_insert_with(|| (breaker.clone(), 0));
        entry.1 += 1;
        if breaker.since < entry.0.since {
            entry.0 = breaker.clone();
        }
    }
    let open = by_topic.into_values().map(|(breaker, replicas)| Cause::BreakerOpen {
        topic: breaker.topic,
        state: breaker.state,
        since: breaker.since,
        reason: breaker.reason,
        replicas,
    });
    open.collect()
}

/// Those that have the workflow, in whatever version.
fn knows<'a>(run: &RunFacts, replicas: &'a [ReplicaFacts]) -> impl Iterator<Item = &'a ReplicaFacts> {
    replicas
        .iter()
        .filter(|replica| replica.workflows.contains(&run.workflow))
}

fn versions(run: &RunFacts, replica: &ReplicaFacts) -> Option<[u32; 2]> {
    replica.replays.as_ref()?.get(&run.workflow).copied()
}

/// Which versions of the workflow are replayed by somebody.
fn replayed(run: &RunFacts, replicas: &[ReplicaFacts]) -> Vec<[u32; 2]> {
    let versions: BTreeSet<[u32; 2]> = knows(run, replicas)
        .filter_map(|replica| versions(run, replica))
        .collect();
    versions.into_iter().collect()
}

/// Those that can take the run.
pub(super) fn with_code<'a>(run: &RunFacts, replicas: &'a [ReplicaFacts]) -> Vec<&'a ReplicaFacts> {
    let takes = |replica: &&ReplicaFacts| match (run.code_version, versions(run, replica)) {
        (Some(version), Some([first, last])) => (first..=last).contains(&version),
        _ => true,
    };
    knows(run, replicas).filter(takes).collect()
}
