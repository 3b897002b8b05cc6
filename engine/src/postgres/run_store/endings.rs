//! Letting go of runs.

use std::collections::HashMap;
use std::time::Duration;

use futures::FutureExt;
use serde_json::Value;
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{PostgresRunStore, Query};
use crate::lifecycle::{Act, Ending, FleetError, LetGo, Poked, RunClaim, RunId, storable_reason};
use crate::postgres::database::DatabaseError;

const LET_GO_RUNS: &str = include_str!("../../../queries/let_go_runs.sql");
const END_RUNS: &str = include_str!("../../../queries/end_runs.sql");
/// Before code is run again that ran too long.
const OVERRUN_PAUSE: Duration = Duration::from_secs(1);
const POKED_RUNS: &str = include_str!("../../../queries/poked_runs.sql");

impl PostgresRunStore {
    pub(super) async fn let_go_rows(&self, group: &[Ending]) -> Result<Vec<LetGo>, FleetError> {
        let query = if group.iter().all(is_plain_end) {
            self.end_query(group)
        } else {
            self.let_go_query(group)
        };
        self.judged(query, group.iter().map(|ending| ending.claim).collect())
            .await
    }

    /// Which of these claims a statement gave up, as it answers by place, and what holds the others.
    pub(super) async fn judged(&self, query: Query, claims: Vec<RunClaim>) -> Result<Vec<LetGo>, FleetError> {
        let poked = |runs: Vec<RunId>| self.database.statement(POKED_RUNS).bind(runs);
        let runs = claims.iter().map(|claim| claim.run).collect();
        let rest = poked(runs);
        let answers = self.database.run(move |connection| {
            async move {
                let mut answers = vec![LetGo::Lost; claims.len()];
                for row in &query.fetch_all(&mut *connection).await? {
                    let at: i64 = row.try_get(0)?;
                    if let Some(answer) = usize::try_from(at - 1).ok().and_then(|at| answers.get_mut(at)) {
                        *answer = LetGo::Done;
                    }
                }
                if answers.contains(&LetGo::Lost) {
                    judge_refused(connection, rest, &claims, &mut answers).await?;
                }
                Ok(answers)
            }
            .boxed()
        });
        Ok(answers.await?)
    }

    /// What both statements take first: which claims, and what becomes of their runs.
    fn ending_query(&self, sql: &'static str, group: &[Ending], columns: &[Column]) -> Query {
        let claims = || group.iter().map(|ending| ending.claim);
        self.database
            .statement(sql)
            .bind(claims().map(|claim| claim.run).collect::<Vec<_>>())
            .bind(claims().map(|claim| claim.token).collect::<Vec<_>>())
            .bind(claims().map(|claim| claim.claim_id).collect::<Vec<_>>())
            .bind(columns.iter().map(|column| column.act).collect::<Vec<_>>())
            .bind(columns.iter().map(|column| column.output).collect::<Vec<_>>())
            .bind(columns.iter().map(|column| column.reason.clone()).collect::<Vec<_>>())
    }

    fn end_query(&self, group: &[Ending]) -> Query {
        let columns: Vec<Column> = group.iter().map(|ending| column(&ending.act)).collect();
        self.ending_query(END_RUNS, group, &columns).bind(self.replica)
    }

    fn let_go_query(&self, group: &[Ending]) -> Query {
        let columns: Vec<Column> = group.iter().map(|ending| column(&ending.act)).collect();
        let waits = Waits::of(group);
        self.ending_query(LET_GO_RUNS, group, &columns)
            .bind(columns.iter().map(|column| column.due_at).collect::<Vec<_>>())
            .bind(
                columns
                    .iter()
                    .map(|column| column.delay.as_secs_f64())
                    .collect::<Vec<_>>(),
            )
            .bind(columns.iter().map(|column| column.seen).collect::<Vec<_>>())
            .bind(group.iter().map(|ending| ending.had_batches).collect::<Vec<_>>())
            .bind(waits.at)
            .bind(waits.paths)
            .bind(waits.kinds)
            .bind(waits.due)
            .bind(waits.attempts)
            .bind(self.replica)
            .bind(attributes(group))
    }

    pub(super) async fn poked_rows(&self, runs: &[RunId]) -> Result<Vec<Poked>, FleetError> {
        let query = self.database.statement(POKED_RUNS).bind(runs.to_vec());
        let rows = self
            .database
            .run(move |connection| query.fetch_all(connection).boxed())
            .await?;
        Ok(rows
            .iter()
            .map(poked)
            .collect::<Result<_, _>>()
            .map_err(DatabaseError::from)?)
    }
}

/// Nothing but its own row is to be looked at, or written.
fn is_plain_end(ending: &Ending) -> bool {
    let ends = matches!(ending.act, Act::Complete { .. } | Act::Fail { .. });
    ends && !ending.had_batches && ending.attributes.is_none()
}

/// What was not let go of: still ours and refused, or not ours any more, be it by our own earlier request.
async fn judge_refused(
    connection: &mut PgConnection,
    query: Query,
    claims: &[RunClaim],
    answers: &mut [LetGo],
) -> Result<(), sqlx::Error> {
    let mut held = HashMap::new();
    for row in &query.fetch_all(connection).await? {
        let claim_id: Option<uuid::Uuid> = row.try_get("claim_id")?;
        let (run, token): (RunId, i64) = (row.try_get("id")?, row.try_get("claim_token")?);
        if let Some(claim_id) = claim_id {
            held.insert(RunClaim { run, token, claim_id }, poked(row)?);
        }
    }
    for (answer, claim) in answers.iter_mut().zip(claims) {
        if let (LetGo::Lost, Some(poked)) = (*answer, held.get(claim)) {
            *answer = LetGo::Held(*poked);
        }
    }
    Ok(())
}

/// Sent empty when no code of the group set any.
fn attributes(group: &[Ending]) -> Vec<Option<Value>> {
    if group.iter().all(|ending| ending.attributes.is_none()) {
        return Vec::new();
    }
    let set = group.iter().map(|ending| ending.attributes.clone().map(Value::Object));
    set.collect()
}

fn poked(row: &PgRow) -> Result<Poked, sqlx::Error> {
    Ok(Poked {
        run: row.try_get("id")?,
        halted: row.try_get("halted")?,
        forced: row.try_get("forced")?,
        paused: row.try_get("paused")?,
        wake_seq: row.try_get("wake_seq")?,
    })
}

/// An act as the statement takes it.
struct Column<'a> {
    act: &'static str,
    output: Option<&'a [u8]>,
    reason: Option<String>,
    due_at: Option<chrono::DateTime<chrono::Utc>>,
    delay: Duration,
    seen: i64,
}

fn column(act: &Act) -> Column<'_> {
    let bare = |act| Column {
        act,
        output: None,
        reason: None,
        due_at: None,
        delay: Duration::ZERO,
        seen: 0,
    };
    match act {
        Act::Complete { output } => Column {
            output: Some(output),
            ..bare("complete")
        },
        Act::Fail { reason } => Column {
            reason: Some(storable_reason(reason)),
            ..bare("fail")
        },
        Act::Quarantine { reason } => Column {
            reason: Some(storable_reason(reason)),
            ..bare("quarantine")
        },
        Act::Wait {
            seen, due_at, batches, ..
        } => Column {
            seen: *seen,
            due_at: *due_at,
            ..bare(if *batches { "wait_batches" } else { "wait" })
        },
        Act::WaitToUndo { seen, due_at, .. } => Column {
            seen: *seen,
            due_at: *due_at,
            ..bare("wait_to_undo")
        },
        Act::NotUndone { reason, .. } => Column {
            reason: Some(storable_reason(reason)),
            ..bare("not_undone")
        },
        Act::Unwound => bare("unwound"),
        Act::Overrun { reason } => Column {
            reason: Some(storable_reason(reason)),
            delay: OVERRUN_PAUSE,
            ..bare("overrun")
        },
        Act::HandBack { delay, reason } => Column {
            delay: *delay,
            reason: reason.as_deref().map(storable_reason),
            ..bare("hand_back")
        },
    }
}

/// The open steps of the group, each with the place of its run in it.
#[derive(Default)]
struct Waits {
    at: Vec<i64>,
    paths: Vec<String>,
    kinds: Vec<&'static str>,
    due: Vec<Option<chrono::DateTime<chrono::Utc>>>,
    attempts: Vec<i16>,
}

impl Waits {
    fn of(group: &[Ending]) -> Self {
        let mut all = Self::default();
        for (at, ending) in (1..).zip(group) {
            for wait in ending.act.waits() {
                all.at.push(at);
                all.paths.push(wait.path.clone());
                all.kinds.push(wait.kind.as_str());
                all.due.push(wait.due_at);
                all.attempts.push(i16::try_from(wait.attempts).unwrap_or(i16::MAX));
            }
        }
        all
    }
}
