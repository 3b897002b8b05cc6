//! Starting runs: pages of those without keys, and one by one those that an earlier run may answer for.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::FutureExt;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::database::{Database, DatabaseError};
use super::inspect::document;
use crate::lifecycle::{Birth, NewRun, Started};
use crate::telemetry::closed::{Closed as _, StartedBy};

const START_RUNS: &str = include_str!("../../queries/start_runs.sql");
const START_CLAIMED_RUNS: &str = include_str!("../../queries/start_claimed_runs.sql");
const START_BY_HAND: &str = include_str!("../../queries/start_by_hand.sql");

#[derive(serde::Deserialize)]
struct Answer {
    outcome: String,
    run_id: Option<Uuid>,
}

impl Database {
    /// Starts runs without keys, all in one commit or none; asked again, those that are not there. `rings` says whether the
    /// statement rings the replicas.
    pub(crate) async fn start_runs(&self, page: &[NewRun], again: bool, rings: bool) -> Result<(), DatabaseError> {
        debug_assert!(!page.iter().any(NewRun::starts_alone));
        let query = self.start_page(page, again).bind(rings);
        document::<i64>(self, query).await.map(|_| ())
    }

    /// Starts runs without keys that this replica claims for so long; answers when.
    pub(super) async fn start_claimed_runs(
        &self,
        births: &[&Birth],
        claim_id: Uuid,
        replica: Uuid,
        lease: Duration,
    ) -> Result<DateTime<Utc>, DatabaseError> {
        let page: Vec<&NewRun> = births.iter().map(|birth| &birth.run).collect();
        let query = self
            .statement(START_CLAIMED_RUNS)
            .bind(page.iter().map(|run| run.id).collect::<Vec<_>>())
            .bind(page.iter().map(|run| &*run.workflow).collect::<Vec<_>>())
            .bind(page.iter().map(|run| &*run.params).collect::<Vec<_>>())
            .bind(
                births
                    .iter()
                    .map(|birth| birth.code_version.cast_signed())
                    .collect::<Vec<_>>(),
            )
            .bind(column(&page, deadline_s))
            .bind(column(&page, |run| run.pace_per_s))
            .bind(column(&page, |run| run.traceparent.as_deref()))
            .bind(column(&page, |run| run.attributes.as_ref()))
            .bind(column(&page, |run| run.actor.as_deref()))
            .bind(claim_id)
            .bind(replica)
            .bind(lease.as_secs_f64());
        let row = self.run(move |connection| query.fetch_one(connection).boxed()).await?;
        Ok(row.try_get(0)?)
    }

    /// Starts one run, or finds the one that answers for it; `rings` says whether the statement rings the replicas, `untold`
    /// by whom it is started if no process counts it.
    pub(crate) async fn start_run(
        &self,
        run: &NewRun,
        rings: bool,
        untold: Option<StartedBy>,
    ) -> Result<Started, DatabaseError> {
        answered(document(self, self.start_one(run, rings, untold)).await?)
    }

    /// The same in the caller's own transaction, which rings the replicas with its commit.
    pub(super) async fn start_run_in(
        &self,
        transaction: &mut PgConnection,
        run: &NewRun,
    ) -> Result<Started, DatabaseError> {
        let start = self.start_one(run, true, Some(StartedBy::Rust));
        let row = start.fetch_one(transaction).await?;
        answered(Some(row.try_get::<Json<Answer>, _>(0)?.0))
    }

    fn start_page(&self, page: &[NewRun], again: bool) -> Query<'static, sqlx::Postgres, PgArguments> {
        let page: Vec<&NewRun> = page.iter().collect();
        let page = &*page;
        self.statement(START_RUNS)
            .bind(page.iter().map(|run| run.id).collect::<Vec<_>>())
            .bind(page.iter().map(|run| &*run.workflow).collect::<Vec<_>>())
            .bind(page.iter().map(|run| &*run.params).collect::<Vec<_>>())
            .bind(again)
            .bind(column(page, |run| run.queue.as_deref()))
            .bind(column(page, priority))
            .bind(column(page, |run| run.tenant.as_deref()))
            .bind(column(page, |run| run.limit_key.as_deref()))
            .bind(column(page, |run| run.attributes.as_ref()))
            .bind(column(page, |run| run.start_at))
            .bind(column(page, deadline_s))
            .bind(column(page, |run| run.pace_per_s))
            .bind(column(page, |run| run.traceparent.as_deref()))
            .bind(column(page, |run| run.actor.as_deref()))
    }

    fn start_one(
        &self,
        run: &NewRun,
        rings: bool,
        untold: Option<StartedBy>,
    ) -> Query<'static, sqlx::Postgres, PgArguments> {
        self.statement(START_BY_HAND)
            .bind(run.id)
            .bind(&*run.workflow)
            .bind(&run.params)
            .bind(&run.singleton_key)
            .bind(&run.idempotency_key)
            .bind(run.start_at)
            .bind(run.pace_per_s)
            .bind(deadline_s(run))
            .bind(&run.traceparent)
            .bind(&run.actor)
            .bind(&run.queue)
            .bind(priority(run))
            .bind(&run.tenant)
            .bind(&run.limit_key)
            .bind(&run.debounce_key)
            .bind(&run.attributes)
            .bind(rings)
            .bind(untold.map(StartedBy::text))
            .bind(run.delay.map(|delay| delay.as_secs_f64()))
    }
}

/// A column of the page; one that no run has a value in is sent empty.
fn column<'a, T>(page: &[&'a NewRun], of: impl Fn(&'a NewRun) -> Option<T>) -> Vec<Option<T>> {
    if page.iter().all(|run| of(run).is_none()) {
        return Vec::new();
    }
    page.iter().map(|run| of(run)).collect()
}

/// The ordinary priority is not written down.
fn priority(run: &NewRun) -> Option<i16> {
    (run.priority > 0).then(|| i16::from(run.priority))
}

fn deadline_s(run: &NewRun) -> Option<f64> {
    run.deadline.map(|deadline| deadline.as_secs_f64())
}

fn answered(answer: Option<Answer>) -> Result<Started, DatabaseError> {
    match answer.map(|answer| (answer.outcome, answer.run_id)) {
        Some((outcome, Some(run))) if outcome == "new" => Ok(Started::New(run)),
        Some((outcome, Some(run))) if outcome == "found" => Ok(Started::Found(run)),
        Some((outcome, Some(run))) if outcome == "debounced" => Ok(Started::Debounced(run)),
        Some((outcome, _)) if outcome == "held" => Ok(Started::Held),
        Some((outcome, _)) if outcome == "busy" => Ok(Started::Busy),
        _ => Err(DatabaseError::Unanswered(
            "the start function gave no known outcome".to_owned(),
        )),
    }
}
