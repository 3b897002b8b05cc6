//! Items from the user's own tables, by the user's own statements.

use std::marker::PhantomData;

use anyhow::Context as _;
use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use futures::{FutureExt, TryStreamExt};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Connection, Executor, FromRow, PgConnection, Row};
use uuid::Uuid;

use super::database::{Database, DatabaseError};
use crate::workflow::{IdPages, Resources, Source};

/// So many times what a call may take has one statement in a snapshot, an hour by default: it may sort millions, but a
/// connection that was cut off meanwhile never answers, and its run would be held for ever.
const DEADLINES: u32 = 180;

/// A value bound into a source's statements.
#[derive(Debug, Clone)]
pub enum SqlValue {
    /// `bigint`
    Number(i64),
    /// `text`
    Text(String),
    /// `boolean`
    Truth(bool),
    /// `date`
    Date(NaiveDate),
    /// `timestamptz`
    Time(DateTime<Utc>),
    /// `uuid`
    Id(Uuid),
}

macro_rules! sql_value {
    ($($type:ty => $variant:ident),*) => {$(
        impl From<$type> for SqlValue {
            fn from(value: $type) -> Self { Self::$variant(value) }
        }
    )*};
}
sql_value!(i64 => Number, String => Text, bool => Truth, NaiveDate => Date, DateTime<Utc> => Time, Uuid => Id);

/// Items from tables: one statement for the ids, one or two for the rows.
///
/// - `ids` returns one `bigint[]`: the next ids above `$1`, ascending, at most `$2` of them. An empty one is the end, so what
///   is filtered must be filtered before it is bounded: `where active and id > $1 order by id limit $2`.
/// - `rows` returns the rows of the ids in `$1 :: bigint[]`, the id in a column `id`; `$2` is their number.
/// - `rows_between`, optional and two to three times cheaper, returns the rows between `$1` and `$2`; it is used
///   for batches without gaps, so it reads exactly the planned ids.
/// - Values of [`SqlSource::bind`] are `$3` onwards, in all of them.
pub struct SqlSource<R> {
    name: &'static str,
    ids: &'static str,
    rows: &'static str,
    rows_between: Option<&'static str>,
    values: Vec<SqlValue>,
    consistent: bool,
    row: PhantomData<fn() -> R>,
}

impl<R> SqlSource<R> {
    /// A source; its name is the step's.
    #[must_use]
    pub fn new(name: &'static str, ids: &'static str, rows: &'static str) -> Self {
        Self {
            name,
            ids,
            rows,
            rows_between: None,
            values: Vec::new(),
            consistent: false,
            row: PhantomData,
        }
    }

    /// Gives the statement for batches without gaps.
    #[must_use]
    pub fn rows_between(mut self, sql: &'static str) -> Self {
        self.rows_between = Some(sql);
        self
    }

    /// Binds the next value: `$3`, `$4`, …
    #[must_use]
    pub fn bind(mut self, value: impl Into<SqlValue>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Plans from one snapshot. It is held while the plan is written, which keeps vacuum from cleaning up that long.
    #[must_use]
    pub fn consistent(mut self) -> Self {
        self.consistent = true;
        self
    }
}

type Statement = Query<'static, sqlx::Postgres, PgArguments>;

fn bind_all(mut query: Statement, values: &[SqlValue]) -> Statement {
    for value in values {
        query = match value {
            SqlValue::Number(value) => query.bind(*value),
            SqlValue::Text(value) => query.bind(value.clone()),
            SqlValue::Truth(value) => query.bind(*value),
            SqlValue::Date(value) => query.bind(*value),
            SqlValue::Time(value) => query.bind(*value),
            SqlValue::Id(value) => query.bind(*value),
        };
    }
    query
}

fn database(resources: &Resources) -> anyhow::Result<&Database> {
    #[cfg(feature = "testing")]
    crate::testing::note_missing_database(resources);
    resources
        .get::<Database>()
        .context("no database: an SQL source needs one among the engine's resources")
}

#[async_trait]
impl<R> Source for SqlSource<R>
where
    R: for<'r> FromRow<'r, PgRow> + Send + Sync + Unpin + 'static,
{
    type Row = R;

    fn name(&self) -> &str {
        self.name
    }

    fn consistent(&self) -> bool {
        self.consistent
    }

    async fn ids(&self, resources: &Resources, after: Option<i64>) -> anyhow::Result<Box<dyn IdPages>> {
        let database = database(resources)?.clone();
        let snapshot = if self.consistent {
            Some(open_snapshot(&database).await?)
        } else {
            None
        };
        let pages = SqlPages {
            database,
            snapshot,
            sql: self.ids,
            values: self.values.clone(),
            after,
        };
        Ok(Box::new(pages))
    }

    async fn rows(&self, resources: &Resources, ids: &[i64]) -> anyhow::Result<Vec<(i64, R)>> {
        let database = database(resources)?;
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else {
            return Ok(Vec::new());
        };
        let query = match self.rows_between {
            Some(sql) if crate::lifecycle::is_contiguous(ids) => database.statement(sql).bind(*first).bind(*last),
            // Planned anew for each page: a plan kept for any ids takes them for few and goes through the list for
            // every row.
            _ => database
                .statement(self.rows)
                .persistent(false)
                .bind(ids.to_vec())
                .bind(ids.len() as i64),
        };
        let query = bind_all(query, &self.values);
        let count = ids.len();
        let rows = database
            .run(move |connection| {
                async move {
                    let mut rows = Vec::with_capacity(count);
                    let mut stream = query.fetch(connection);
                    while let Some(row) = stream.try_next().await? {
                        rows.push((row.try_get::<i64, _>("id")?, R::from_row(&row)?));
                    }
                    Ok(rows)
                }
                .boxed()
            })
            .await;
        rows.with_context(|| format!("reading rows of source {}", self.name))
    }
}

struct SqlPages {
    database: Database,
    snapshot: Option<PgConnection>,
    sql: &'static str,
    values: Vec<SqlValue>,
    after: Option<i64>,
}

#[async_trait]
impl IdPages for SqlPages {
    async fn next(&mut self, limit: usize) -> anyhow::Result<Vec<i64>> {
        let query = self
            .database
            .statement(self.sql)
            .bind(self.after.unwrap_or(i64::MIN))
            .bind(limit as i64);
        let query = bind_all(query, &self.values);
        let row = match &mut self.snapshot {
            Some(connection) => {
                let longest = self.database.deadline() * DEADLINES;
                let asked = tokio::time::timeout(longest, query.fetch_one(connection)).await;
                let asked = asked.map_err(|_| DatabaseError::TooSlow(longest))?;
                asked.map_err(DatabaseError::from)?
            }
            None => {
                self.database
                    .run(move |connection| query.fetch_one(connection).boxed())
                    .await?
            }
        };
        let ids: Option<Vec<i64>> = row
            .try_get(0)
            .map_err(DatabaseError::from)
            .context("the ids statement must return one bigint[]")?;
        let ids = ids.unwrap_or_default();
        self.after = ids.last().copied().or(self.after);
        Ok(ids)
    }
}

/// A connection of its own in one read-only snapshot. It is never returned to the pool: dropping it closes it.
async fn open_snapshot(database: &Database) -> anyhow::Result<PgConnection> {
    let database = database.clone();
    let opened = tokio::spawn(async move {
        let mut connection = database.own_connection().await?;
        connection
            .execute(sqlx::raw_sql(
                "begin isolation level repeatable read read only; set local idle_in_transaction_session_timeout = 0",
            ))
            .await?;
        connection.ping().await?;
        Ok::<_, sqlx::Error>(connection)
    });
    Ok(opened.await?.map_err(DatabaseError::from)?)
}
