//! What must hold of the tables at any moment, what must not last, and what must hold between tables and topic.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

use crate::topic::Copy;

const SAFETY: &str = include_str!("../sql/safety.sql");
const LIVENESS: &str = include_str!("../sql/liveness.sql");
const FATES: &str = include_str!("../sql/fates.sql");
const RECOVERED: &str = include_str!("../sql/recovered.sql");
const UNSETTLED: &str = include_str!("../sql/unsettled.sql");
/// Items named in a failure.
const NAMED: usize = 5;

/// What is wrong with the tables this moment: nothing, whatever died when.
pub async fn safety_violations(tables: impl PgExecutor<'_>) -> Vec<String> {
    let rows: Vec<(String, String, String)> = sqlx::query_as(SAFETY).fetch_all(tables).await.unwrap();
    rows.iter()
        .map(|(name, subject, detail)| format!("{name} {subject}: {detail}"))
        .collect()
}

/// What has lasted too long; to be asked once nothing is broken any more.
pub async fn liveness_violations(tables: impl PgExecutor<'_>, bound: Duration) -> Vec<String> {
    let query = sqlx::query_as(LIVENESS).bind(bound.as_secs_f64());
    let rows: Vec<(String, String, String)> = query.fetch_all(tables).await.unwrap();
    rows.iter()
        .map(|(name, subject, detail)| format!("{name} {subject}: {detail}"))
        .collect()
}

/// What the run's own proof finds wrong.
pub async fn proof_problems(pool: &PgPool, run: Uuid) -> Vec<String> {
    let query = sqlx::query_as("select problem, batch_seq, item_id, detail from lockgate.proof_problems($1)").bind(run);
    let rows: Vec<(String, Option<i32>, Option<i64>, String)> = query.fetch_all(pool).await.unwrap();
    rows.iter()
        .map(|(problem, batch, item, detail)| format!("proof {problem} batch {batch:?} item {item:?}: {detail}"))
        .collect()
}

/// A run compared with the topic.
#[derive(Debug, Clone, Default)]
pub struct Comparison {
    /// Items planned.
    pub planned: usize,
    /// Items by their first outcome.
    pub fates: BTreeMap<String, usize>,
    /// Records of the run.
    pub records: usize,
    /// Records beyond the first of a message.
    pub duplicates: usize,
    /// How many of those the recorded deaths and troubles explain.
    pub bound: usize,
    /// Claims taken from holders whose lease had ended.
    pub recovered: i64,
    /// What is wrong.
    pub problems: Vec<String>,
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "planned {}, outcomes {:?}, records {}, duplicates {} (bound {}), recovered claims {}",
            self.planned, self.fates, self.records, self.duplicates, self.bound, self.recovered
        )
    }
}

/// Compares a run with its records: nothing lost, nothing invented, duplicates within their bound, all intact.
pub async fn compare(pool: &PgPool, run: Uuid, copies: &[Copy], killed: &[Uuid], window: usize) -> Comparison {
    let origin: Uuid = sqlx::query_scalar("select origin_id from lockgate.task_runs where id = $1")
        .bind(run)
        .fetch_one(pool)
        .await
        .unwrap();
    let rows: Vec<(i64, String, String)> = sqlx::query_as(FATES).bind(run).fetch_all(pool).await.unwrap();
    let items: HashMap<Uuid, (i64, &str)> = rows
        .iter()
        .map(|(item, step, fate)| {
            (
                Uuid::new_v5(&origin, format!("{step}/{item}").as_bytes()),
                (*item, fate.as_str()),
            )
        })
        .collect();
    let mut found = Comparison {
        planned: rows.len(),
        records: copies.len(),
        ..bound(pool, run, killed, window).await
    };
    for (_, _, fate) in &rows {
        *found.fates.entry(fate.clone()).or_default() += 1;
    }
    if items.len() != rows.len() {
        found
            .problems
            .push(format!("{} items are planned twice", rows.len() - items.len()));
    }
    let resent = hold_redelivered(&mut found, pool, run, copies).await;
    hold_to_plan(&mut found, &items, copies, &resent);
    found
}

fn hold_to_plan(found: &mut Comparison, items: &HashMap<Uuid, (i64, &str)>, copies: &[Copy], resent: &HashSet<Uuid>) {
    let seen: HashSet<Uuid> = copies.iter().map(|copy| copy.message_id).collect();
    found.duplicates = copies.len() - seen.len();
    let mut lost: Vec<i64> = items
        .iter()
        .filter(|(id, (_, fate))| *fate == "delivered" && !seen.contains(*id))
        .map(|(_, (item, _))| *item)
        .collect();
    lost.sort_unstable();
    if !lost.is_empty() {
        let named = &lost[..lost.len().min(NAMED)];
        found.problems.push(format!(
            "K1 {} items delivered but not in the topic: {named:?}",
            lost.len()
        ));
    }
    for copy in copies {
        match items.get(&copy.message_id) {
            None => found.problems.push(format!("K2 a record of no planned item: {copy:?}")),
            Some((item, fate @ ("refused" | "skipped"))) if !resent.contains(&copy.message_id) => {
                found
                    .problems
                    .push(format!("K2 item {item} is {fate} and in the topic: {copy:?}"));
            }
            Some(_) => {}
        }
        if !copy.intact {
            found.problems.push(format!("K6 not what was sent: {copy:?}"));
        }
    }
    found.problems.truncate(50);
    if found.duplicates > found.bound {
        let problem = format!(
            "K3 {} duplicates, no more than {} are explained",
            found.duplicates, found.bound
        );
        found.problems.push(problem);
    }
}

/// A kill re-sends what was in flight, at most the window; whoever only lost a lease may have sent all of its batch.
async fn bound(pool: &PgPool, run: Uuid, killed: &[Uuid], window: usize) -> Comparison {
    let recovered: Vec<(Uuid, i64, i64)> = sqlx::query_as(RECOVERED).bind(run).fetch_all(pool).await.unwrap();
    let unsettled: i64 = sqlx::query_scalar(UNSETTLED).bind(run).fetch_one(pool).await.unwrap();
    let of_deaths = recovered.iter().map(|(replica, _, items)| {
        let items = usize::try_from(*items).unwrap();
        if killed.contains(replica) {
            items.min(window)
        } else {
            items
        }
    });
    Comparison {
        bound: of_deaths.sum::<usize>() + usize::try_from(unsettled).unwrap(),
        recovered: recovered.iter().map(|(_, claims, _)| claims).sum(),
        ..Comparison::default()
    }
}

/// Answers the messages that redelivery has tried.
async fn hold_redelivered(found: &mut Comparison, pool: &PgPool, run: Uuid, copies: &[Copy]) -> HashSet<Uuid> {
    let sql = "select message_id, status, kafka_partition, kafka_offset from lockgate.undelivered_messages
                where run_id = $1 and (attempts > 0 or status in ('claimed', 'delivered'))";
    let rows: Vec<(Uuid, String, Option<i32>, Option<i64>)> =
        sqlx::query_as(sql).bind(run).fetch_all(pool).await.unwrap();
    let at: HashMap<(i32, i64), Uuid> = copies
        .iter()
        .map(|copy| ((copy.partition, copy.offset), copy.message_id))
        .collect();
    for (id, status, partition, offset) in &rows {
        let place = partition.zip(*offset);
        if status == "delivered" && place.is_none_or(|place| at.get(&place) != Some(id)) {
            found
                .problems
                .push(format!("K5 message {id} is not at {place:?}, where it was redelivered"));
        }
    }
    rows.into_iter().map(|(id, ..)| id).collect()
}
