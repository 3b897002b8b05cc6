//! Runs that other runs start, stop, or go on as.

use futures::FutureExt;
use serde_json::Value;
use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{PostgresRunStore, Query};
use crate::lifecycle::{ChildEnd, Continuation, EndedChild, FleetError, LetGo, NewChild, RunId, storable_reason};
use crate::postgres::database::{Database, DatabaseError};

const START_CHILDREN: &str = include_str!("../../../queries/start_children.sql");
const ENDED_CHILDREN: &str = include_str!("../../../queries/ended_children.sql");
const STOP_CHILDREN: &str = include_str!("../../../queries/stop_children.sql");
const CONTINUE_RUNS: &str = include_str!("../../../queries/continue_runs.sql");
const CANCEL_RUN: &str = include_str!("../../../queries/cancel_run.sql");

const STOP_LOST_CHILDREN: &str = include_str!("../../../queries/stop_lost_children.sql");

/// Children that one statement stops.
const STOPS: i32 = 200;
/// Ends of children that one statement reads.
const ENDS: usize = 1_000;

impl PostgresRunStore {
    pub(super) async fn start_child_rows(&self, group: &[NewChild]) -> Result<Vec<bool>, FleetError> {
        let query = self.start_children_query(group);
        let rows = self
            .database
            .run(move |connection| query.fetch_all(connection).boxed())
            .await?;
        let mut started = vec![false; group.len()];
        for row in &rows {
            let at: i64 = row.try_get(0).map_err(DatabaseError::from)?;
            if let Some(started) = usize::try_from(at - 1).ok().and_then(|at| started.get_mut(at)) {
                *started = true;
            }
        }
        Ok(started)
    }

    fn start_children_query(&self, group: &[NewChild]) -> Query {
        let claims = || group.iter().map(|child| child.claim);
        let texts = |of: fn(&NewChild) -> Option<String>| group.iter().map(of).collect::<Vec<_>>();
        self.database
            .statement(START_CHILDREN)
            .bind(claims().map(|claim| claim.run).collect::<Vec<_>>())
            .bind(claims().map(|claim| claim.token).collect::<Vec<_>>())
            .bind(claims().map(|claim| claim.claim_id).collect::<Vec<_>>())
            .bind(texts(|child| Some(child.path.clone())))
            .bind(group.iter().map(|child| child.begun_at).collect::<Vec<_>>())
            .bind(group.iter().map(|child| child.id).collect::<Vec<_>>())
            .bind(group.iter().map(|child| child.origin_id).collect::<Vec<_>>())
            .bind(texts(|child| Some(child.workflow.clone())))
            .bind(group.iter().map(|child| child.params.clone()).collect::<Vec<_>>())
            .bind(texts(|child| child.wishes.queue.clone()))
            .bind(
                group
                    .iter()
                    .map(|child| child.wishes.priority.map(i16::from))
                    .collect::<Vec<_>>(),
            )
            .bind(group.iter().map(|child| child.wishes.start_at).collect::<Vec<_>>())
            .bind(
                group
                    .iter()
                    .map(|child| child.wishes.deadline.map(|deadline| deadline.as_secs_f64()))
                    .collect::<Vec<_>>(),
            )
            .bind(texts(|child| child.wishes.tenant.clone()))
            .bind(texts(|child| child.wishes.limit_key.clone()))
            .bind(
                group
                    .iter()
                    .map(|child| child.wishes.attributes.clone())
                    .collect::<Vec<_>>(),
            )
            .bind(texts(|child| child.wishes.traceparent.clone()))
            .bind(
                group
                    .iter()
                    .map(|child| child.wishes.detached.then_some(true))
                    .collect::<Vec<_>>(),
            )
    }

    pub(super) async fn ended_child_rows(
        &self,
        parent: RunId,
        paths: &[String],
    ) -> Result<Vec<EndedChild>, FleetError> {
        let mut ended = Vec::new();
        for page in paths.chunks(ENDS) {
            let query = self.database.statement(ENDED_CHILDREN).bind(parent).bind(page.to_vec());
            let rows = self
                .database
                .run(move |connection| query.fetch_all(connection).boxed())
                .await?;
            for row in &rows {
                ended.push(ended_child(row).map_err(DatabaseError::from)?);
            }
        }
        Ok(ended)
    }

    pub(super) async fn continue_rows(&self, group: &[Continuation]) -> Result<Vec<LetGo>, FleetError> {
        let claims = || group.iter().map(|run| run.claim);
        let query = self
            .database
            .statement(CONTINUE_RUNS)
            .bind(claims().map(|claim| claim.run).collect::<Vec<_>>())
            .bind(claims().map(|claim| claim.token).collect::<Vec<_>>())
            .bind(claims().map(|claim| claim.claim_id).collect::<Vec<_>>())
            .bind(group.iter().map(|run| run.next).collect::<Vec<_>>())
            .bind(group.iter().map(|run| run.params.clone()).collect::<Vec<_>>())
            .bind(group.iter().map(|run| run.seen).collect::<Vec<_>>())
            .bind(group.iter().map(|run| run.had_batches).collect::<Vec<_>>())
            .bind(self.replica)
            .bind(
                group
                    .iter()
                    .map(|run| run.attributes.clone().map(Value::Object))
                    .collect::<Vec<_>>(),
            );
        self.judged(query, claims().collect()).await
    }

    pub(super) async fn cancel_run_row(&self, run: RunId, reason: &str) -> Result<(), FleetError> {
        let query = self
            .database
            .statement(CANCEL_RUN)
            .bind(run)
            .bind(storable_reason(reason))
            .bind(None::<String>)
            .bind(false);
        self.database
            .run(move |connection| async move { query.execute(connection).await.map(|_| ()) }.boxed())
            .await?;
        Ok(())
    }
}

fn ended_child(row: &PgRow) -> Result<EndedChild, sqlx::Error> {
    let (output, reason): (Option<Vec<u8>>, Option<String>) = (row.try_get("output")?, row.try_get("reason")?);
    let reason = reason.unwrap_or_default();
    Ok(EndedChild {
        path: row.try_get("path")?,
        run: row.try_get("id")?,
        end: match row.try_get("status")? {
            Some("completed") => ChildEnd::Completed(output.unwrap_or_else(|| b"null".to_vec())),
            Some("cancelled") => ChildEnd::Cancelled(reason),
            Some(_) => ChildEnd::Failed(reason),
            None => ChildEnd::Gone,
        },
    })
}

/// Stops the children of a run, a page a statement, until nothing more is to be done; answers how many rows that changed.
pub(in crate::postgres) async fn stop_children_of(database: &Database, run: Uuid) -> Result<u64, DatabaseError> {
    let mut changed = 0;
    loop {
        let query = database.statement(STOP_CHILDREN).bind(run).bind(STOPS);
        let row = database
            .run(move |connection| query.fetch_one(connection).boxed())
            .await?;
        let now: i64 = row.try_get(0)?;
        if now == 0 {
            return Ok(changed);
        }
        changed += now.unsigned_abs();
        fail::fail_point!("stop_children.mid");
    }
}

/// Stops what branches of a run that lost a select have started, a page a statement; answers how many.
pub(in crate::postgres) async fn stop_lost_children_of(
    database: &Database,
    run: Uuid,
    lost: &[String],
) -> Result<u64, DatabaseError> {
    let mut stopped = 0;
    loop {
        let query = database.statement(STOP_LOST_CHILDREN).bind(run).bind(lost.to_vec());
        let row = database
            .run(move |connection| query.fetch_one(connection).boxed())
            .await?;
        let now: i32 = row.try_get(0)?;
        if now == 0 {
            return Ok(stopped);
        }
        stopped += u64::from(now.unsigned_abs());
        fail::fail_point!("stop_lost_children.mid");
    }
}
