//! What an operator does: start, cancel, pause, resume; each is one call of the function that SQL users call too.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::database::{Database, DatabaseError};
use super::inspect::document;

const STATUS_OF_RUN: &str = include_str!("../../queries/status_of_run.sql");
const START_BY_HAND: &str = include_str!("../../queries/start_by_hand.sql");
const START_RUNS: &str = include_str!("../../queries/start_runs.sql");
const CANCEL_RUN: &str = include_str!("../../queries/cancel_run.sql");
const PAUSE_RUN: &str = include_str!("../../queries/pause_run.sql");
const RESUME_RUN: &str = include_str!("../../queries/resume_run.sql");

/// The lock of a singleton key is held for one short transaction.
const BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// How often a lost answer is asked for again.
const LOST_TRIES: u32 = 2;

/// A run that a person wants started.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ManualStart {
    /// The id it will have unless an earlier run answers for it.
    pub run_id: Uuid,
    /// Its workflow.
    pub workflow: String,
    /// Its input, exact bytes of a JSON document.
    pub params: Vec<u8>,
    /// At most one unfinished run has this key.
    pub singleton_key: Option<String>,
    /// At most one run of the workflow ever has this key.
    pub idempotency_key: Option<String>,
    /// It starts no earlier.
    pub start_at: Option<DateTime<Utc>>,
    /// Messages per second it may send.
    pub pace_per_s: Option<i32>,
    /// It fails when not over this long after its start.
    pub deadline: Option<Duration>,
    /// W3C trace context to continue.
    pub traceparent: Option<String>,
    /// Who asks.
    pub actor: Option<String>,
}

/// Runs of one workflow to be started together, none of which has a key.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct StartPage {
    pub(crate) ids: Vec<Uuid>,
    pub(crate) workflow: &'static str,
    /// Exact bytes of a JSON document each.
    pub(crate) params: Vec<Vec<u8>>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManualStarted {
    /// A new run.
    New(Uuid),
    /// An earlier run has the idempotency key.
    Found(Uuid),
    /// Another unfinished run holds the singleton key.
    Held,
    /// Contended this moment.
    Busy,
}

#[derive(serde::Deserialize)]
struct Answer {
    outcome: String,
    run_id: Option<Uuid>,
}

/// Acts on runs for a person.
#[derive(Debug, Clone)]
pub struct Operator {
    database: Database,
    actor: Option<String>,
}

impl Operator {
    /// Acts on a database in somebody's name; none: the name of the database role is recorded.
    #[must_use]
    pub fn new(database: Database, actor: Option<String>) -> Self {
        Self { database, actor }
    }

    /// The same, in somebody's name.
    pub(crate) fn acting_for(mut self, actor: String) -> Self {
        self.actor = Some(actor);
        self
    }

    /// The state of a run; none: it is not there.
    ///
    /// # Errors
    /// The database failed.
    pub async fn status_of_run(&self, run: Uuid) -> Result<Option<String>, DatabaseError> {
        document(&self.database, self.database.statement(STATUS_OF_RUN).bind(run)).await
    }

    /// Starts a run with patience for keys that are contended this moment and for answers that are lost.
    ///
    /// # Errors
    /// As [`Operator::start_by_hand`].
    pub async fn start(&self, start: &ManualStart) -> Result<ManualStarted, DatabaseError> {
        let (mut busy, mut lost) = (0, 0);
        loop {
            match self.start_by_hand(start).await {
                // Ours under its own id: an answer was lost before.
                Ok(ManualStarted::Found(run)) if run == start.run_id => return Ok(ManualStarted::New(run)),
                Ok(ManualStarted::Busy) if busy < BUSY_TRIES => {
                    busy += 1;
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                // The run's id was made by the caller, so asking again cannot start it twice.
                Err(error) if error.may_pass() && lost < LOST_TRIES => lost += 1,
                answer => return answer,
            }
        }
    }

    /// Asks once to start a run.
    ///
    /// # Errors
    /// The database failed. Unless it refused, whether anything changed is not known; with an idempotency key the
    /// request can be repeated.
    pub async fn start_by_hand(&self, start: &ManualStart) -> Result<ManualStarted, DatabaseError> {
        let answer = document(&self.database, self.start_statement(start.clone())).await?;
        answered(answer)
    }

    /// The same in the caller's own transaction.
    pub(super) async fn start_in(
        &self,
        transaction: &mut PgConnection,
        start: ManualStart,
    ) -> Result<ManualStarted, DatabaseError> {
        let row = self.start_statement(start).fetch_one(transaction).await?;
        answered(Some(row.try_get::<Json<Answer>, _>(0)?.0))
    }

    fn start_statement(&self, start: ManualStart) -> Query<'static, sqlx::Postgres, PgArguments> {
        self.database
            .statement(START_BY_HAND)
            .bind(start.run_id)
            .bind(start.workflow)
            .bind(start.params)
            .bind(start.singleton_key)
            .bind(start.idempotency_key)
            .bind(start.start_at)
            .bind(start.pace_per_s)
            .bind(start.deadline.map(|deadline| deadline.as_secs_f64()))
            .bind(start.traceparent)
            .bind(start.actor.or_else(|| self.actor.clone()))
    }

    /// Starts a page of runs, with patience for answers that are lost.
    pub(crate) async fn start_runs(&self, page: &StartPage) -> Result<(), DatabaseError> {
        for lost in 0.. {
            let query = self
                .database
                .statement(START_RUNS)
                .bind(page.ids.clone())
                .bind(page.workflow)
                .bind(page.params.clone())
                .bind(lost > 0)
                .bind(None::<String>)
                .bind(None::<i16>)
                .bind(None::<DateTime<Utc>>)
                .bind(None::<f64>)
                .bind(None::<String>)
                .bind(self.actor.clone());
            match document::<i64>(&self.database, query).await {
                Err(error) if error.may_pass() && lost < LOST_TRIES => {}
                answer => return answer.map(|_| ()),
            }
        }
        Ok(())
    }

    /// Cancels a run; answers its state now, `stopping` while anything of it is held or to be undone, or `unknown`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn cancel_run(&self, run: Uuid, reason: Option<&str>) -> Result<String, DatabaseError> {
        self.stop_run(run, reason, false).await
    }

    /// Cancels a run whose code is not to undo what it did first; its reason then says what was not undone.
    ///
    /// # Errors
    /// The database failed.
    pub async fn force_cancel_run(&self, run: Uuid, reason: Option<&str>) -> Result<String, DatabaseError> {
        self.stop_run(run, reason, true).await
    }

    async fn stop_run(&self, run: Uuid, reason: Option<&str>, force: bool) -> Result<String, DatabaseError> {
        let query = self.database.statement(CANCEL_RUN).bind(run);
        let query = query
            .bind(reason.map(str::to_owned))
            .bind(self.actor.clone())
            .bind(force);
        let answer = document(&self.database, query).await?;
        Ok(answer.unwrap_or_else(|| "unknown".to_owned()))
    }

    /// Pauses a run; answers its state now, or `unknown`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn pause_run(&self, run: Uuid, reason: Option<&str>) -> Result<String, DatabaseError> {
        self.ask(PAUSE_RUN, run, Some(reason)).await
    }

    /// Resumes a paused or quarantined run; answers its state now, or `unknown`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn resume_run(&self, run: Uuid) -> Result<String, DatabaseError> {
        self.ask(RESUME_RUN, run, None).await
    }

    async fn ask(&self, sql: &'static str, run: Uuid, reason: Option<Option<&str>>) -> Result<String, DatabaseError> {
        let mut query = self.database.statement(sql).bind(run);
        if let Some(reason) = reason {
            query = query.bind(reason.map(str::to_owned));
        }
        let answer = document(&self.database, query.bind(self.actor.clone())).await?;
        Ok(answer.unwrap_or_else(|| "unknown".to_owned()))
    }
}

fn answered(answer: Option<Answer>) -> Result<ManualStarted, DatabaseError> {
    match answer.map(|answer| (answer.outcome, answer.run_id)) {
        Some((outcome, Some(run))) if outcome == "new" => Ok(ManualStarted::New(run)),
        Some((outcome, Some(run))) if outcome == "found" => Ok(ManualStarted::Found(run)),
        Some((outcome, _)) if outcome == "held" => Ok(ManualStarted::Held),
        Some((outcome, _)) if outcome == "busy" => Ok(ManualStarted::Busy),
        _ => Err(DatabaseError::Unanswered(
            "the start function gave no known outcome".to_owned(),
        )),
    }
}
