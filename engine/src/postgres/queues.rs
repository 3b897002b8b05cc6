//! What an operator does to queues: each is one call of the function that SQL users call too.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::control::Operator;
use super::database::DatabaseError;
use super::inspect::{Inspector, document, documents};
use crate::lifecycle::{Holds, QueueSettings};

const SET_QUEUE: &str = include_str!("../../queries/set_queue.sql");
const PAUSE_QUEUE: &str = include_str!("../../queries/pause_queue.sql");
const RESUME_QUEUE: &str = include_str!("../../queries/resume_queue.sql");
const REMOVE_QUEUE: &str = include_str!("../../queries/remove_queue.sql");
const LIST_QUEUES: &str = include_str!("../../queries/list_queues.sql");

/// A queue as people see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QueueSummary {
    /// Its name.
    pub name: String,
    /// Runs that could go on now; counted up to 100,000, together with those that come later.
    pub waiting: i64,
    /// Runs whose time is to come.
    pub later: i64,
    /// Runs whose code runs.
    pub running: i64,
    /// Runs that hold a place; 0 without limits.
    pub holding: i64,
    /// Seconds that the first of them has waited.
    pub oldest_wait_s: Option<f64>,
    /// Most runs that hold a place at once.
    pub max_running: Option<i32>,
    /// The same for each limit key.
    pub max_per_key: Option<i32>,
    /// Claims a second.
    pub rate_per_s: Option<f64>,
    /// Claims that may come at once after a pause.
    pub burst: Option<i32>,
    /// Claims that may come now.
    pub tokens: Option<f64>,
    /// Tenants take turns.
    pub fair: bool,
    /// How long a run holds its place.
    pub holds: Holds,
    /// Seconds that code may run from its claim until it waits or ends.
    pub max_attempt_s: Option<f64>,
    /// Since when it is paused.
    pub paused_at: Option<DateTime<Utc>>,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// Why it is paused.
    pub pause_reason: Option<String>,
    /// Who set it last; none: nothing is set for it.
    pub actor: Option<String>,
    /// When that was.
    pub updated_at: Option<DateTime<Utc>>,
}

impl Inspector {
    /// Queues for which something is set or in which runs wait or run, or the one of a name.
    ///
    /// # Errors
    /// The database failed.
    pub async fn list_queues(&self, name: Option<&str>) -> Result<Vec<QueueSummary>, DatabaseError> {
        let query = self.database.statement(LIST_QUEUES).bind(name.map(str::to_owned));
        documents(&self.database, query).await
    }
}

impl Operator {
    /// Makes the settings of a queue what is given; a pause stays. Answers `new`, `changed` or `same`, and with `only_new`
    /// `known` when something is set for it already: then that stays.
    ///
    /// # Errors
    /// The settings make no sense, or the database failed.
    pub async fn set_queue(
        &self,
        settings: &QueueSettings,
        reason: Option<&str>,
        only_new: bool,
    ) -> Result<String, DatabaseError> {
        let whole = |limit: Option<u32>| limit.map(|limit| i32::try_from(limit).unwrap_or(i32::MAX));
        let query = self
            .database
            .statement(SET_QUEUE)
            .bind(settings.name.clone())
            .bind(whole(settings.max_running))
            .bind(whole(settings.max_per_key))
            .bind(settings.rate_per_s)
            .bind(whole(settings.burst))
            .bind(settings.fair)
            .bind(settings.holds.as_str())
            .bind(settings.max_attempt.map(|time| time.as_secs_f64()))
            .bind(reason.map(str::to_owned))
            .bind(self.actor.clone())
            .bind(only_new);
        Ok(document(&self.database, query).await?.unwrap_or_default())
    }

    /// Takes the settings of a queue away, a pause too; answers `removed` or `unknown`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn remove_queue(&self, name: &str, reason: Option<&str>) -> Result<String, DatabaseError> {
        self.ask_queue(REMOVE_QUEUE, name, reason).await
    }

    /// Nothing of the queue is claimed until it is resumed; answers `paused`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn pause_queue(&self, name: &str, reason: Option<&str>) -> Result<String, DatabaseError> {
        self.ask_queue(PAUSE_QUEUE, name, reason).await
    }

    /// Runs of the queue are claimed again; answers `active`, or `unknown` when nothing is set for it.
    ///
    /// # Errors
    /// The database failed.
    pub async fn resume_queue(&self, name: &str, reason: Option<&str>) -> Result<String, DatabaseError> {
        self.ask_queue(RESUME_QUEUE, name, reason).await
    }

    async fn ask_queue(&self, sql: &'static str, name: &str, reason: Option<&str>) -> Result<String, DatabaseError> {
        let query = self
            .database
            .statement(sql)
            .bind(name.to_owned())
            .bind(reason.map(str::to_owned))
            .bind(self.actor.clone());
        Ok(document(&self.database, query).await?.unwrap_or_default())
    }
}
