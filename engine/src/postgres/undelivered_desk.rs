//! What an operator does with undelivered messages; each is one call of the function that SQL users call too.

use futures::FutureExt;
use sqlx::Row;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::types::Json;
use uuid::Uuid;

use super::database::{Database, DatabaseError};
use super::inspect::{document, documents};
use crate::inspect::{UndeliveredChange, UndeliveredCount, UndeliveredFilter, UndeliveredMessage, UndeliveredSummary};

const LIST_UNDELIVERED: &str = include_str!("../../queries/list_undelivered.sql");
const COUNT_UNDELIVERED: &str = include_str!("../../queries/count_undelivered.sql");
const REDELIVER_UNDELIVERED: &str = include_str!("../../queries/redeliver_undelivered.sql");
const DISCARD_UNDELIVERED: &str = include_str!("../../queries/discard_undelivered.sql");
const EXPORT_UNDELIVERED: &str = include_str!("../../queries/export_undelivered.sql");

/// Rows changed in one transaction: few enough to be quick, so that claims hardly wait.
const PAGE: i32 = 1000;

/// Looks at undelivered messages and acts on them for a person.
#[derive(Debug, Clone)]
pub struct UndeliveredDesk {
    database: Database,
    actor: Option<String>,
}

impl UndeliveredDesk {
    /// Acts on a database in somebody's name; none: the name of the database role is recorded.
    #[must_use]
    pub fn new(database: Database, actor: Option<String>) -> Self {
        Self { database, actor }
    }

    /// Messages, newest first; `older_than` is the id to go on behind.
    ///
    /// # Errors
    /// The database failed.
    pub async fn list(
        &self,
        filter: &UndeliveredFilter,
        older_than: Option<Uuid>,
        at_most: i32,
    ) -> Result<Vec<UndeliveredSummary>, DatabaseError> {
        let query = self.filtered(LIST_UNDELIVERED, filter).bind(older_than).bind(at_most);
        documents(&self.database, query).await
    }

    /// How many messages there are by state.
    ///
    /// # Errors
    /// The database failed.
    pub async fn count(&self, filter: &UndeliveredFilter) -> Result<Vec<UndeliveredCount>, DatabaseError> {
        documents(&self.database, self.filtered(COUNT_UNDELIVERED, filter)).await
    }

    /// Makes messages due now, those that redelivery had given up or refused included. Answers how many; those without
    /// a message, and those that redelivery holds this moment, stay as they are.
    ///
    /// # Errors
    /// The database failed; with how many it was done to before.
    pub async fn redeliver(&self, filter: &UndeliveredFilter, why: Option<&str>) -> Result<u64, (u64, DatabaseError)> {
        self.change(REDELIVER_UNDELIVERED, filter, why).await
    }

    /// Gives messages up for good and clears what was kept of them. Answers how many.
    ///
    /// # Errors
    /// The database failed or no reason was given; with how many it was done to before.
    pub async fn discard(&self, filter: &UndeliveredFilter, why: &str) -> Result<u64, (u64, DatabaseError)> {
        self.change(DISCARD_UNDELIVERED, filter, Some(why)).await
    }

    /// What these messages are made of. Needs rights on the table.
    ///
    /// # Errors
    /// The database failed.
    pub async fn export(&self, ids: &[Uuid]) -> Result<Vec<UndeliveredMessage>, DatabaseError> {
        let query = self.database.statement(EXPORT_UNDELIVERED).bind(ids.to_vec());
        let rows = self.database.run(move |connection| query.fetch_all(connection).boxed());
        Ok(rows.await?.iter().map(message).collect::<Result<_, _>>()?)
    }

    async fn change(
        &self,
        sql: &'static str,
        filter: &UndeliveredFilter,
        why: Option<&str>,
    ) -> Result<u64, (u64, DatabaseError)> {
        let mut changed = 0;
        let mut newer_than = None;
        loop {
            let query = self
                .filtered(sql, filter)
                .bind(newer_than)
                .bind(PAGE)
                .bind(why.map(str::to_owned))
                .bind(self.actor.clone());
            let page = document::<UndeliveredChange>(&self.database, query).await;
            let Some(page) = page.map_err(|error| (changed, error))? else {
                return Ok(changed);
            };
            changed += page.changed.unsigned_abs();
            if page.seen < i64::from(PAGE) {
                return Ok(changed);
            }
            newer_than = page.last_id;
        }
    }

    fn filtered(&self, sql: &'static str, filter: &UndeliveredFilter) -> Query<'static, sqlx::Postgres, PgArguments> {
        let filter = filter.clone();
        self.database
            .statement(sql)
            .bind(filter.ids)
            .bind(filter.statuses)
            .bind(filter.run)
            .bind(filter.command_type)
            .bind(filter.topic)
            .bind(filter.reason_code)
    }
}

fn message(row: &PgRow) -> Result<UndeliveredMessage, sqlx::Error> {
    Ok(UndeliveredMessage {
        id: row.try_get("id")?,
        key: row.try_get("key")?,
        headers: row.try_get::<Json<_>, _>("headers")?.0,
        payload: row.try_get("payload")?,
    })
}
