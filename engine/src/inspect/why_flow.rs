//! What a run's queue keeps it from: a pause, a limit and who holds it, the rate, or its place among those that wait.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::why::RunFacts;

/// More that stand before a run are not counted.
const MOST_BEFORE: i64 = 1000;

/// What was read of a run's queue.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct FlowFacts {
    /// Its queue.
    pub queue: String,
    /// It could be claimed now, for all that its row says.
    pub waits: bool,
    /// It holds a place in its queue already.
    pub goes_on: bool,
    /// Its limit key.
    pub limit_key: Option<String>,
    /// Its tenant.
    pub tenant: Option<String>,
    /// Its priority.
    pub priority: i16,
    /// How often in a row its code ran longer than it may.
    pub overruns: i16,
    /// Tenants take turns.
    pub fair: bool,
    /// Since when its queue is paused.
    pub paused_at: Option<DateTime<Utc>>,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// Why.
    pub pause_reason: Option<String>,
    /// Most runs that hold a place.
    pub max_running: Option<i64>,
    /// The same for each limit key.
    pub max_per_key: Option<i64>,
    /// Claims a second.
    pub rate_per_s: Option<f64>,
    /// Claims that may come now.
    pub tokens: Option<f64>,
    /// Runs that hold a place.
    pub holding: i64,
    /// Those of its key.
    pub holding_key: i64,
    /// The first ten of those that hold a place.
    pub holders: Vec<PlaceHolder>,
    /// The first ten of its key.
    pub key_holders: Vec<PlaceHolder>,
    /// How many that wait stand before it.
    pub before: i64,
}

/// A run that holds a place in its queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlaceHolder {
    /// The run.
    pub run_id: Uuid,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Replica that runs its code; none: it waits, in its place.
    pub replica: Option<Uuid>,
}

/// What a queue keeps a run from.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "limit", rename_all = "snake_case")]
#[allow(missing_docs, reason = "each variant's sentence is its Display")]
pub enum FlowCause {
    Paused {
        queue: String,
        since: DateTime<Utc>,
        by: Option<String>,
        reason: Option<String>,
    },
    MaxRunning {
        queue: String,
        max_running: i64,
        holding: i64,
        holders: Vec<PlaceHolder>,
    },
    MaxPerKey {
        queue: String,
        key: String,
        max_per_key: i64,
        holding: i64,
        holders: Vec<PlaceHolder>,
    },
    Rate {
        queue: String,
        rate_per_s: f64,
        tokens: f64,
        next_at: DateTime<Utc>,
    },
    Overran {
        queue: String,
        times: i16,
    },
    Place {
        queue: String,
        before: i64,
        priority: i16,
        fair: bool,
    },
}

// A rate that is not a number is refused where it is set.
impl Eq for FlowCause {}

/// What holds it until it changes.
pub(super) fn limits(run: &RunFacts, flow: Option<&FlowFacts>) -> Vec<FlowCause> {
    let Some(flow) = flow.filter(|flow| flow.waits) else {
        return Vec::new();
    };
    let queue = || flow.queue.clone();
    let mut found = Vec::new();
    if let Some(since) = flow.paused_at {
        found.push(FlowCause::Paused {
            queue: queue(),
            since,
            by: flow.paused_by.clone(),
            reason: flow.pause_reason.clone(),
        });
    }
    // What goes on in its place needs none.
    if flow.goes_on {
        return found;
    }
    if let Some(max_running) = flow.max_running.filter(|most| flow.holding >= *most) {
        found.push(FlowCause::MaxRunning {
            queue: queue(),
            max_running,
            holding: flow.holding,
            holders: flow.holders.clone(),
        });
    }
    if let (Some(most), Some(key)) = (flow.max_per_key, &flow.limit_key)
        && flow.holding_key >= most
    {
        found.push(FlowCause::MaxPerKey {
            queue: queue(),
            key: key.clone(),
            max_per_key: most,
            holding: flow.holding_key,
            holders: flow.key_holders.clone(),
        });
    }
    if let (Some(rate_per_s), Some(tokens)) = (flow.rate_per_s, flow.tokens)
        && tokens < 1.0
    {
        let millis = ((1.0 - tokens) / rate_per_s * 1000.0).min(1e15) as i64;
        found.push(FlowCause::Rate {
            queue: queue(),
            rate_per_s,
            tokens,
            next_at: run.now + TimeDelta::milliseconds(millis),
        });
    }
    found
}

/// What makes it late without keeping it.
pub(super) fn place(flow: Option<&FlowFacts>) -> Vec<FlowCause> {
    let Some(flow) = flow else { return Vec::new() };
    let mut found = Vec::new();
    if flow.overruns > 0 {
        found.push(FlowCause::Overran {
            queue: flow.queue.clone(),
            times: flow.overruns,
        });
    }
    if flow.waits && flow.before > 0 {
        found.push(FlowCause::Place {
            queue: flow.queue.clone(),
            before: flow.before,
            priority: flow.priority,
            fair: flow.fair,
        });
    }
    found
}

impl fmt::Display for FlowCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused {
                queue,
                since,
                by,
                reason,
            } => {
                let by = by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
                let why = reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
                write!(f, "its queue {queue} was paused at {}{by}{why}; resume it", time(since))
            }
            Self::MaxRunning {
                queue,
                max_running,
                holding,
                holders,
            } => write!(
                f,
                "{holding} of at most {max_running} runs of queue {queue} are under way{}",
                held_by(holders)
            ),
            Self::MaxPerKey {
                queue,
                key,
                max_per_key,
                holding,
                holders,
            } => write!(
                f,
                "{holding} of at most {max_per_key} runs of queue {queue} with limit key {key} are under way{}",
                held_by(holders)
            ),
            Self::Rate {
                queue,
                rate_per_s,
                tokens,
                next_at,
            } => write!(
                f,
                "queue {queue} lets {rate_per_s} runs a second begin and has {:.2} left; the next at {}",
                tokens.max(0.0),
                time(next_at)
            ),
            Self::Overran { queue, times } => write!(
                f,
                "its code ran longer than max_attempt of queue {queue}, {times} times in a row; after five it is set aside"
            ),
            Self::Place {
                queue,
                before,
                priority,
                fair,
            } => {
                let at_least = if *before >= MOST_BEFORE { "at least " } else { "" };
                let turns = if *fair { ", in which tenants take turns" } else { "" };
                write!(
                    f,
                    "{at_least}{before} that wait stand before it in queue {queue}{turns}; its priority is {priority}"
                )
            }
        }
    }
}

fn held_by(holders: &[PlaceHolder]) -> String {
    let named: Vec<String> = holders
        .iter()
        .map(|holder| format!("{} since {}", holder.run_id, time(&holder.since)))
        .collect();
    if named.is_empty() {
        return String::new();
    }
    format!("; longest: {}", named.join(", "))
}

fn time(time: &DateTime<Utc>) -> impl fmt::Display + use<> {
    time.format("%Y-%m-%d %H:%M:%SZ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    fn facts() -> (RunFacts, FlowFacts) {
        let run = RunFacts {
            now: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            ..RunFacts::default()
        };
        let flow = FlowFacts {
            queue: "mails".to_owned(),
            waits: true,
            limit_key: Some("k".to_owned()),
            ..FlowFacts::default()
        };
        (run, flow)
    }

    fn words(run: &RunFacts, flow: &FlowFacts) -> Vec<String> {
        limits(run, Some(flow)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_limit_names_its_figures_and_who_holds_it() {
        let (run, flow) = facts();
        assert!(words(&run, &flow).is_empty());
        let holder = PlaceHolder {
            run_id: Uuid::from_u128(7),
            since: run.now,
            replica: None,
        };
        let full = FlowFacts {
            max_running: Some(3),
            max_per_key: Some(1),
            holding: 3,
            holding_key: 1,
            holders: vec![holder.clone()],
            key_holders: vec![holder],
            ..flow
        };
        let said = words(&run, &full);
        assert_eq!(said.len(), 2);
        for part in ["3 of at most 3", "queue mails", "00000007 since 2027"] {
            assert!(said[0].contains(part), "{}", said[0]);
        }
        assert!(
            said[1].contains("1 of at most 1") && said[1].contains("limit key k"),
            "{}",
            said[1]
        );
        let goes_on = FlowFacts { goes_on: true, ..full };
        assert!(words(&run, &goes_on).is_empty(), "it holds its place already");
    }

    #[test]
    fn a_rate_says_what_is_left_and_when_the_next_may_begin() {
        let (run, flow) = facts();
        let spent = FlowFacts {
            rate_per_s: Some(0.5),
            tokens: Some(0.25),
            ..flow
        };
        let causes = limits(&run, Some(&spent));
        let [FlowCause::Rate { next_at, .. }] = &causes[..] else {
            panic!("{causes:?}")
        };
        assert_eq!(*next_at, run.now + TimeDelta::milliseconds(1_500));
        assert!(causes[0].to_string().contains("has 0.25 left"));
        let left = FlowFacts {
            tokens: Some(1.0),
            ..spent
        };
        assert!(limits(&run, Some(&left)).is_empty());
    }

    #[test]
    fn a_paused_queue_says_who_paused_it_and_why() {
        let (run, flow) = facts();
        let paused = FlowFacts {
            paused_at: Some(run.now),
            paused_by: Some("mia".to_owned()),
            pause_reason: Some("the server is down".to_owned()),
            ..flow.clone()
        };
        let said = words(&run, &paused).remove(0);
        assert!(said.contains("by mia: the server is down; resume it"), "{said}");
        let held = FlowFacts { waits: false, ..paused };
        assert!(words(&run, &held).is_empty(), "what is claimed is not kept by it");
        let behind = FlowFacts {
            before: 1000,
            priority: 3,
            ..flow
        };
        let said = place(Some(&behind))[0].to_string();
        assert!(
            said.contains("at least 1000") && said.contains("priority is 3"),
            "{said}"
        );
    }
}
