//! Schedules: what the leader writes under its term, and what people do to them.

mod backfill;
mod control;

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::FutureExt;
use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

pub use backfill::{Backfill, NotBackfilled};
pub use control::{ScheduleSpec, ScheduleView, Schedules, SetOutcome};

use super::database::DatabaseError;
use super::leader::{PostgresLeader, Query};
use crate::leader::{DueSchedule, DueSchedules, ScheduleStore, StepOutcome};
use crate::lifecycle::FleetError;
use crate::trigger::{MAX_QUEUED, Overlap, Overlapping, ScheduleRow, Step, overlap};

const DUE_SCHEDULES: &str = include_str!("../../../queries/due_schedules.sql");
const HOLD_SCHEDULE: &str = include_str!("../../../queries/hold_schedule.sql");
const UNFINISHED_RUNS: &str = include_str!("../../../queries/unfinished_runs_of_schedule.sql");
const FIRE_SLOT: &str = include_str!("../../../queries/fire_slot.sql");
const QUEUE_RUN: &str = include_str!("../../../queries/queue_run.sql");
const SETTLE_SCHEDULE: &str = include_str!("../../../queries/settle_schedule.sql");
const MARK_SCHEDULE_PROBLEM: &str = include_str!("../../../queries/mark_schedule_problem.sql");
const RETRY_SCHEDULE_PROBLEMS: &str = include_str!("../../../queries/retry_schedule_problems.sql");

#[async_trait]
impl ScheduleStore for PostgresLeader {
    async fn due_schedules(&self, page: i64, without: &[String]) -> Result<DueSchedules, FleetError> {
        let query = self.database.statement(DUE_SCHEDULES).bind(page).bind(without.to_vec());
        let rows = self
            .database
            .run(move |connection| query.fetch_all(connection).boxed())
            .await?;
        Ok(due_schedules(&rows).map_err(DatabaseError::from)?)
    }

    async fn take_step(&self, term: i64, schedule: &ScheduleRow, step: &Step) -> Result<StepOutcome, FleetError> {
        let (writing, fires) = (Writing::new(self, term, schedule, step), step.slot.is_some());
        let taken = self
            .database
            .transaction(move |connection| {
                async move {
                    let outcome = writing.take(connection).await?;
                    if fires {
                        fail::fail_point!("trigger.before_commit");
                    }
                    Ok(outcome)
                }
                .boxed()
            })
            .await
            .map_err(hopeless)?;
        if fires {
            fail::fail_point!("trigger.after_commit");
        }
        Ok(taken)
    }

    async fn mark_schedule_problem(
        &self,
        term: i64,
        schedule: &ScheduleRow,
        problem: &str,
    ) -> Result<bool, FleetError> {
        let query = self
            .database
            .statement(MARK_SCHEDULE_PROBLEM)
            .bind(term)
            .bind(self.replica)
            .bind(schedule.name.clone())
            .bind(schedule.revision)
            .bind(problem.to_owned());
        let row = self
            .database
            .run(move |connection| query.fetch_one(connection).boxed())
            .await?;
        Ok(row.try_get(0).map_err(DatabaseError::from)?)
    }

    async fn retry_schedule_problems(&self, term: i64) -> Result<(), FleetError> {
        let query = self
            .database
            .statement(RETRY_SCHEDULE_PROBLEMS)
            .bind(term)
            .bind(self.replica);
        self.database
            .run(move |connection| query.execute(connection).boxed())
            .await?;
        Ok(())
    }
}

/// The statements of one step, made before its transaction begins so that it is short.
struct Writing {
    hold: Query,
    unfinished: Query,
    fire: Query,
    queue: Query,
    settle: Query,
    slot: Option<DateTime<Utc>>,
    passed_over: Vec<String>,
    term: i64,
    replica: Uuid,
}

impl Writing {
    fn new(leader: &PostgresLeader, term: i64, schedule: &ScheduleRow, step: &Step) -> Self {
        let (database, name) = (&leader.database, || schedule.name.clone());
        Self {
            hold: database
                .statement(HOLD_SCHEDULE)
                .bind(term)
                .bind(leader.replica)
                .bind(name())
                .bind(schedule.revision)
                .bind(step.seen),
            unfinished: database
                .statement(UNFINISHED_RUNS)
                .bind(name())
                .bind(step.slot)
                .bind(MAX_QUEUED),
            fire: database
                .statement(FIRE_SLOT)
                .bind(name())
                .bind(Uuid::now_v7())
                .bind(step.slot)
                .bind(step.start_at)
                .bind(term),
            queue: database.statement(QUEUE_RUN),
            settle: database
                .statement(SETTLE_SCHEDULE)
                .bind(name())
                .bind(step.settled)
                .bind(step.next),
            slot: step.slot,
            passed_over: step.passed_over.iter().cloned().collect(),
            term,
            replica: leader.replica,
        }
    }

    async fn take(mut self, connection: &mut PgConnection) -> Result<StepOutcome, sqlx::Error> {
        let held = self.hold.fetch_one(&mut *connection).await?;
        let Some(rule) = held.try_get::<Option<String>, _>("overlap")? else {
            let leads: bool = held.try_get("leads")?;
            return Ok(if leads {
                StepOutcome::Changed
            } else {
                StepOutcome::Deposed
            });
        };
        let outcome = match self.slot {
            None => StepOutcome::Settled,
            Some(slot) => {
                // A rule that this binary does not know is the table's check, not ours: the careful one it is.
                let rule = rule.parse().unwrap_or(Overlap::Skip);
                let unfinished = self.unfinished.fetch_one(&mut *connection).await?;
                match overlap(
                    rule,
                    slot,
                    unfinished.try_get("unfinished")?,
                    unfinished.try_get("newest")?,
                ) {
                    Overlapping::PassOver(reason) => StepOutcome::PassedOver(reason),
                    Overlapping::Start(after) => fire(connection, self.fire, self.queue, after).await?,
                }
            }
        };
        if let StepOutcome::PassedOver(reason) = &outcome {
            self.passed_over.push(reason.clone());
        }
        self.settle
            .bind(self.passed_over)
            .bind(self.term)
            .bind(self.replica)
            .execute(connection)
            .await?;
        Ok(outcome)
    }
}

async fn fire(
    connection: &mut PgConnection,
    fire: Query,
    queue: Query,
    after: Option<Uuid>,
) -> Result<StepOutcome, sqlx::Error> {
    let started = fire.fetch_one(&mut *connection).await?;
    let run: Uuid = started.try_get("run_id")?;
    if started.try_get::<&str, _>("outcome")? != "new" {
        return Ok(StepOutcome::Found(run));
    }
    if let Some(other) = after {
        queue.bind(run).bind(other).execute(connection).await?;
    }
    Ok(StepOutcome::Fired(run))
}

/// Values that the server refuses will be refused again: the schedule must be mended.
fn hopeless(error: DatabaseError) -> FleetError {
    match error.code() {
        Some(code) if code.starts_with("22") || code.starts_with("23") => {
            FleetError::Damaged(format!("its run cannot be started: {error}"))
        }
        _ => error.into(),
    }
}

fn due_schedules(rows: &[PgRow]) -> Result<DueSchedules, sqlx::Error> {
    let mut due = DueSchedules::default();
    for row in rows {
        due.next_in = row.try_get::<Option<f64>, _>("next_in")?.map(seconds);
        if row.try_get::<Option<&str>, _>("name")?.is_some() {
            due.schedules.push(due_schedule(row)?);
        }
    }
    Ok(due)
}

fn due_schedule(row: &PgRow) -> Result<DueSchedule, sqlx::Error> {
    Ok(DueSchedule {
        now: row.try_get("now")?,
        schedule: schedule_row(row)?,
        workflow: row.try_get("workflow")?,
    })
}

fn schedule_row(row: &PgRow) -> Result<ScheduleRow, sqlx::Error> {
    Ok(ScheduleRow {
        name: row.try_get("name")?,
        revision: row.try_get("revision")?,
        cron: row.try_get("cron")?,
        timezone: row.try_get("timezone")?,
        dst_gap: row.try_get("dst_gap")?,
        dst_fold: row.try_get("dst_fold")?,
        catch_up: row.try_get("catch_up")?,
        catch_up_max: u32::try_from(row.try_get::<i32, _>("catch_up_max")?).unwrap_or(1),
        catch_up_window: seconds(row.try_get("window_secs")?),
        jitter: seconds(row.try_get("jitter_secs")?),
        last_slot: row.try_get("last_slot")?,
        active_from: row.try_get("active_from")?,
    })
}

/// An interval without end counts as one that is longer than anything.
fn seconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number).unwrap_or(if number > 0.0 { Duration::MAX } else { Duration::ZERO })
}
