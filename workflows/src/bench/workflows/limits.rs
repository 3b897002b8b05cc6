//! What limits cost that do not bind: backlogs with and without them, in turns.

use lockgate::lifecycle::QueueSettings;
use lockgate::postgres::{Database, DatabaseSettings, Operator};
use lockgate::workflow::Workflow;
use serde::Serialize;
use sqlx::PgPool;

use super::shapes::{Nothing, ThreeSteps};
use super::{Backlog, Bench};

/// Runs started by one statement.
const PAGE: usize = 1000;
/// Keys, or tenants, of a backlog.
const KEYS: i32 = 100;
/// More than there are runs.
const FAR_AWAY: u32 = 1_000_000;

/// Backlogs of one workflow with and without limits.
#[derive(Debug, Clone, Serialize)]
pub struct LimitsCost {
    /// The workflow.
    pub workflow: &'static str,
    /// What is set.
    pub limits: &'static str,
    /// Without, in order.
    pub without: Vec<Backlog>,
    /// With, each after the one without of the same place.
    pub with: Vec<Backlog>,
}

impl LimitsCost {
    /// The middle ratio of processor time a run, with to without, over the pairs.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        let cpu = |backlog: &Backlog| backlog.cpu_us_per_run.sum();
        let pairs = self.without.iter().zip(&self.with);
        let mut ratios: Vec<f64> = pairs.map(|(without, with)| cpu(with) / cpu(without)).collect();
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied()
    }
}

/// What is set, and whether the runs have a key or a tenant.
struct Limits {
    name: &'static str,
    settings: fn(&'static str) -> QueueSettings,
    keys: bool,
    tenants: bool,
}

const LIMITS: [Limits; 3] = [
    Limits {
        name: "at most so many at once",
        settings: |name| QueueSettings::new(name).max_running(FAR_AWAY),
        keys: false,
        tenants: false,
    },
    Limits {
        name: "at once, of a key, and a second",
        settings: |name| {
            let limits = QueueSettings::new(name).max_running(FAR_AWAY).max_per_key(FAR_AWAY);
            limits.rate_per_s(1e6).burst(FAR_AWAY)
        },
        keys: true,
        tenants: false,
    },
    Limits {
        name: "fair for a hundred tenants",
        settings: |name| QueueSettings::new(name).fair(),
        keys: false,
        tenants: true,
    },
];

pub(super) async fn costs(
    bench: &Bench<'_>,
    pairs: usize,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> anyhow::Result<Vec<LimitsCost>> {
    let operator = Operator::new(Database::new(&DatabaseSettings::new(&bench.place.url))?, None);
    let mut costs = Vec::new();
    for workflow in [Nothing::NAME, ThreeSteps::NAME] {
        for limits in LIMITS {
            let mut cost = LimitsCost {
                workflow,
                limits: limits.name,
                without: Vec::new(),
                with: Vec::new(),
            };
            for pair in 1..=pairs {
                progress(&format!("{workflow}, {}, pair {pair} of {pairs}", limits.name));
                operator.remove_queue(workflow, None).await?;
                cost.without.push(backlog(bench, workflow, (false, false)).await?);
                operator.set_queue(&(limits.settings)(workflow), None, false).await?;
                cost.with
                    .push(backlog(bench, workflow, (limits.keys, limits.tenants)).await?);
            }
            operator.remove_queue(workflow, None).await?;
            costs.push(cost);
        }
    }
    Ok(costs)
}

async fn backlog(bench: &Bench<'_>, workflow: &str, (keys, tenants): (bool, bool)) -> anyhow::Result<Backlog> {
    let (pool, runs) = (&bench.place.pool, bench.settings.runs);
    bench
        .backlog(async || {
            let mut started = 0;
            while started < runs {
                started += start(pool, workflow, PAGE.min(runs - started), keys, tenants).await?;
            }
            Ok(started)
        })
        .await
}

async fn start(pool: &PgPool, workflow: &str, count: usize, keys: bool, tenants: bool) -> anyhow::Result<usize> {
    let start =
        "select lockgate.start_runs(array_agg(lockgate.new_id()), array_agg($1::text), array_agg('null'::bytea), false,
            p_limit_keys => case when $3 then array_agg('key ' || n % $5) else '{}' end,
            p_tenants => case when $4 then array_agg('tenant ' || n % $5) else '{}' end)
        from generate_series(1, $2) n";
    let started: i64 = sqlx::query_scalar(start)
        .bind(workflow)
        .bind(i32::try_from(count)?)
        .bind(keys)
        .bind(tenants)
        .bind(KEYS)
        .fetch_one(pool)
        .await?;
    Ok(usize::try_from(started)?)
}
