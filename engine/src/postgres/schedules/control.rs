//! What people do to schedules.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::FutureExt;
use serde_json::{Map, Value};
use sqlx::types::Json;
use sqlx::{Row, postgres::PgRow};

use super::{schedule_row, seconds};
use crate::lifecycle::{HIGHEST_PRIORITY, NewRun, misfit_attributes};
use crate::postgres::database::{Database, DatabaseError};
use crate::postgres::leader::Query;
use crate::trigger::{CatchUp, FoldRule, GapRule, Overlap, ScheduleRow};

const LIST_SCHEDULES: &str = include_str!("../../../queries/list_schedules.sql");
const SET_SCHEDULE: &str = include_str!("../../../queries/set_schedule.sql");
const PAUSE_SCHEDULE: &str = include_str!("../../../queries/pause_schedule.sql");
const RESUME_SCHEDULE: &str = include_str!("../../../queries/resume_schedule.sql");
const REMOVE_SCHEDULE: &str = include_str!("../../../queries/remove_schedule.sql");

/// What a schedule is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleSpec {
    /// Its name.
    pub name: String,
    /// The workflow it starts.
    pub workflow: String,
    /// When.
    pub cron: String,
    /// In which zone.
    pub timezone: String,
    /// The input of its runs, exact bytes of a JSON document.
    pub params: Vec<u8>,
    /// The rule for local times that the clocks skip.
    pub dst_gap: GapRule,
    /// The rule for local times that come twice.
    pub dst_fold: FoldRule,
    /// What becomes of missed slots.
    pub catch_up: CatchUp,
    /// Slots older than this never fire.
    pub catch_up_window: Duration,
    /// What becomes of a slot while a run is not over.
    pub overlap: Overlap,
    /// Runs start up to this long after their slot.
    pub jitter: Duration,
    /// Messages per second.
    pub pace_per_s: Option<i32>,
    /// Runs fail when not over after this long.
    pub deadline: Option<Duration>,
    /// From where its runs are claimed; none: the queue with their workflow's name.
    pub queue: Option<String>,
    /// They go before runs of lower priority; at most 20.
    pub priority: u8,
    /// On whose behalf they run.
    pub tenant: Option<String>,
    /// Key of the limits that hold for each key.
    pub limit_key: Option<String>,
    /// By what they are found: strings, numbers and booleans.
    pub attributes: Map<String, Value>,
}

impl ScheduleSpec {
    /// Whether runs can be started as it says, by what holds for every start; when it fires is not looked at.
    ///
    /// # Errors
    /// What cannot be right, in words.
    pub fn check(&self) -> Result<(), String> {
        let run = NewRun {
            queue: self.queue.clone(),
            priority: self.priority,
            tenant: self.tenant.clone(),
            limit_key: self.limit_key.clone(),
            ..NewRun::new(self.workflow.clone())
        };
        run.check()?;
        misfit_attributes(&self.attributes).map_or(Ok(()), |wrong| Err(format!("the attributes do not fit: {wrong}")))
    }
}

/// A schedule as people see it.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleView {
    /// What the trigger reads of it.
    pub row: ScheduleRow,
    /// The workflow it starts.
    pub workflow: String,
    /// The input of its runs.
    pub params: Vec<u8>,
    /// The overlap rule.
    pub overlap: String,
    /// Messages per second.
    pub pace_per_s: Option<i32>,
    /// Its runs fail when not over after this long.
    pub deadline: Option<Duration>,
    /// From where its runs are claimed; none: the queue with their workflow's name.
    pub queue: Option<String>,
    /// They go before runs of lower priority.
    pub priority: u8,
    /// On whose behalf they run.
    pub tenant: Option<String>,
    /// Key of the limits that hold for each key.
    pub limit_key: Option<String>,
    /// By what they are found.
    pub attributes: Map<String, Value>,
    /// Since when nothing fires.
    pub paused_at: Option<DateTime<Utc>>,
    /// When it fires next, once the leader has worked it out.
    pub next_slot: Option<DateTime<Utc>>,
    /// Why it cannot fire.
    pub problem: Option<String>,
    /// The database's clock.
    pub now: DateTime<Utc>,
}

/// What setting a schedule did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetOutcome {
    /// It is new.
    Created,
    /// It was different.
    Changed,
    /// It already was so.
    Unchanged,
}

/// The schedules' table for people.
#[derive(Debug, Clone)]
pub struct Schedules {
    pub(super) database: Database,
    actor: Option<String>,
    reason: Option<String>,
}

impl Schedules {
    /// The schedules of a database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self {
            database,
            actor: None,
            reason: None,
        }
    }

    /// The same, with who sets, pauses, resumes and removes, beside the database user that is logged in, and why, on record.
    #[must_use]
    pub fn acting(self, actor: Option<String>, reason: Option<String>) -> Self {
        Self { actor, reason, ..self }
    }

    /// All schedules by name, or the one of a name.
    ///
    /// # Errors
    /// The database failed.
    pub async fn list(&self, name: Option<&str>) -> Result<Vec<ScheduleView>, DatabaseError> {
        let query = self
            .database
            .statement(LIST_SCHEDULES)
            .bind(name.map(ToOwned::to_owned));
        let rows = self
            .database
            .run(move |connection| query.fetch_all(connection).boxed())
            .await?;
        Ok(rows.iter().map(view).collect::<Result<_, _>>()?)
    }

    /// Makes a schedule what the spec says, whether it is there or not. When it fires was checked before.
    ///
    /// # Errors
    /// The database failed or refused a value. The inner error is that of [`ScheduleSpec::check`]: nothing was changed.
    pub async fn set(&self, spec: &ScheduleSpec) -> Result<Result<SetOutcome, String>, DatabaseError> {
        if let Err(wrong) = spec.check() {
            return Ok(Err(wrong));
        }
        let (policy, max) = match spec.catch_up {
            CatchUp::Skip => ("skip", 10),
            CatchUp::Last => ("last", 10),
            CatchUp::All { max } => ("all", i32::try_from(max).unwrap_or(i32::MAX)),
        };
        let query = self
            .database
            .statement(SET_SCHEDULE)
            .bind(spec.name.clone())
            .bind(spec.workflow.clone())
            .bind(spec.cron.clone())
            .bind(spec.timezone.clone())
            .bind(spec.params.clone())
            .bind(spec.dst_gap.to_string())
            .bind(spec.dst_fold.to_string())
            .bind(policy)
            .bind(max)
            .bind(spec.catch_up_window.as_secs_f64())
            .bind(spec.overlap.to_string())
            .bind(spec.jitter.as_secs_f64())
            .bind(spec.pace_per_s)
            .bind(spec.deadline.map(|deadline| deadline.as_secs_f64()))
            .bind(spec.queue.clone())
            .bind(i32::from(spec.priority))
            .bind(spec.tenant.clone())
            .bind(spec.limit_key.clone())
            .bind(Value::Object(spec.attributes.clone()))
            .bind(self.reason.clone())
            .bind(self.actor.clone());
        let row = self
            .database
            .run(move |connection| query.fetch_one(connection).boxed())
            .await?;
        Ok(Ok(match row.try_get::<&str, _>(0)? {
            "created" => SetOutcome::Created,
            "changed" => SetOutcome::Changed,
            _ => SetOutcome::Unchanged,
        }))
    }

    /// Stops a schedule from firing; `false`: there is none of that name.
    ///
    /// # Errors
    /// The database failed.
    pub async fn pause(&self, name: &str) -> Result<bool, DatabaseError> {
        self.known(self.database.statement(PAUSE_SCHEDULE), name).await
    }

    /// Lets a schedule fire again from now on; `false`: there is none of that name.
    ///
    /// # Errors
    /// The database failed.
    pub async fn resume(&self, name: &str) -> Result<bool, DatabaseError> {
        self.known(self.database.statement(RESUME_SCHEDULE), name).await
    }

    /// Removes a schedule, not its runs; `false`: there is none of that name.
    ///
    /// # Errors
    /// The database failed.
    pub async fn remove(&self, name: &str) -> Result<bool, DatabaseError> {
        self.known(self.database.statement(REMOVE_SCHEDULE), name).await
    }

    async fn known(&self, query: Query, name: &str) -> Result<bool, DatabaseError> {
        let query = query
            .bind(name.to_owned())
            .bind(self.reason.clone())
            .bind(self.actor.clone());
        let row = self
            .database
            .run(move |connection| query.fetch_one(connection).boxed())
            .await?;
        Ok(row.try_get::<&str, _>(0)? != "unknown")
    }
}

fn view(row: &PgRow) -> Result<ScheduleView, sqlx::Error> {
    Ok(ScheduleView {
        row: schedule_row(row)?,
        workflow: row.try_get("workflow")?,
        params: row.try_get("params")?,
        overlap: row.try_get("overlap")?,
        pace_per_s: row.try_get("pace_per_s")?,
        deadline: row.try_get::<Option<f64>, _>("deadline_secs")?.map(seconds),
        queue: row.try_get("queue")?,
        // The table takes none that is higher than a start's.
        priority: u8::try_from(row.try_get::<i16, _>("priority")?).unwrap_or(HIGHEST_PRIORITY),
        tenant: row.try_get("tenant")?,
        limit_key: row.try_get("limit_key")?,
        attributes: row
            .try_get::<Option<Json<_>>, _>("attributes")?
            .map(|found| found.0)
            .unwrap_or_default(),
        paused_at: row.try_get("paused_at")?,
        next_slot: row.try_get("next_slot")?,
        problem: row.try_get("problem")?,
        now: row.try_get("now")?,
    })
}
