//! What an operator does: start, cancel, pause, resume; each is one call of the function that SQL users call too.

use std::time::Duration;

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::database::{Database, DatabaseError};
use super::inspect::document;
use crate::lifecycle::{NewRun, Started};
use crate::telemetry::closed::StartedBy;

const SHOWN: &str = include_str!("../../queries/shown.sql");
const STATUS_OF_RUN: &str = include_str!("../../queries/status_of_run.sql");
const CANCEL_RUN: &str = include_str!("../../queries/cancel_run.sql");
const PAUSE_RUN: &str = include_str!("../../queries/pause_run.sql");
const RESUME_RUN: &str = include_str!("../../queries/resume_run.sql");

/// The lock of a singleton key is held for one short transaction.
const BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// How often a lost answer is asked for again.
pub(super) const LOST_TRIES: u32 = 2;

/// Acts on runs for a person.
#[derive(Debug, Clone)]
pub struct Operator {
    pub(super) database: Database,
    pub(super) actor: Option<String>,
    /// Its starts ring the replicas with their commit.
    rings: bool,
    /// It starts runs for somebody that no process counts.
    untold: Option<StartedBy>,
}

impl Operator {
    /// Acts on a database in somebody's name; none: the name of the database role is recorded.
    #[must_use]
    pub fn new(database: Database, actor: Option<String>) -> Self {
        Self {
            database,
            actor,
            rings: true,
            untold: None,
        }
    }

    /// The same for a person at a terminal, whose process tells nobody what it did.
    pub(crate) fn at_terminal(mut self) -> Self {
        self.untold = Some(StartedBy::Cli);
        self
    }

    /// The same, in somebody's name.
    pub(crate) fn acting_for(mut self, actor: String) -> Self {
        self.actor = Some(actor);
        self
    }

    /// The same, whose caller rings the replicas after a start: commits that ring wait for each other.
    pub(crate) fn quiet(mut self) -> Self {
        self.rings = false;
        self
    }

    /// The state of a run; none: it is not there.
    ///
    /// # Errors
    /// The database failed.
    pub async fn status_of_run(&self, run: Uuid) -> Result<Option<String>, DatabaseError> {
        document(&self.database, self.database.statement(STATUS_OF_RUN).bind(run)).await
    }

    /// What a run shows under a name, or the one that goes on in its place: a value or nothing yet; none: there is no such run.
    pub(crate) async fn shown(&self, run: Uuid, name: &str) -> Result<Option<Vec<Value>>, DatabaseError> {
        let query = self.database.statement(SHOWN).bind(run).bind(name.to_owned());
        document(&self.database, query).await
    }

    /// Starts a run with patience for keys that are contended this moment and for answers that are lost.
    ///
    /// # Errors
    /// As [`Operator::start_by_hand`].
    pub async fn start(&self, run: &NewRun) -> Result<Started, DatabaseError> {
        let (mut busy, mut lost) = (0, 0);
        loop {
            match self.start_by_hand(run).await {
                // Ours under its own id: an answer was lost before.
                Ok(Started::Found(found)) if found == run.id => return Ok(Started::New(found)),
                Ok(Started::Busy) if busy < BUSY_TRIES => {
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
    pub async fn start_by_hand(&self, run: &NewRun) -> Result<Started, DatabaseError> {
        let run = self.named(run.clone());
        self.database.start_run(&run, self.rings, self.untold).await
    }

    /// The same in the caller's own transaction.
    pub(super) async fn start_in(&self, transaction: &mut PgConnection, run: NewRun) -> Result<Started, DatabaseError> {
        self.database.start_run_in(transaction, &self.named(run)).await
    }

    /// In the name of whoever acts, unless the run says in whose.
    pub(crate) fn named(&self, mut run: NewRun) -> NewRun {
        run.actor = run.actor.or_else(|| self.actor.clone());
        run
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

    /// Pauses a run, or the one that goes on in its place; answers its state now, or `unknown`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn pause_run(&self, run: Uuid, reason: Option<&str>) -> Result<String, DatabaseError> {
        self.ask(PAUSE_RUN, run, reason).await
    }

    /// Resumes a paused or quarantined run, or the one that goes on in its place; answers its state now, or `unknown`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn resume_run(&self, run: Uuid, reason: Option<&str>) -> Result<String, DatabaseError> {
        self.ask(RESUME_RUN, run, reason).await
    }

    pub(super) async fn ask(
        &self,
        sql: &'static str,
        run: Uuid,
        reason: Option<&str>,
    ) -> Result<String, DatabaseError> {
        let query = self.database.statement(sql).bind(run);
        let query = query.bind(reason.map(str::to_owned));
        let answer = document(&self.database, query.bind(self.actor.clone())).await?;
        Ok(answer.unwrap_or_else(|| "unknown".to_owned()))
    }
}
