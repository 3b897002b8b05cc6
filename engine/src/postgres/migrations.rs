//! The schema's history: applied one migration a transaction, under a transaction-scoped lock.

use futures::future::BoxFuture;
use sqlx::postgres::PgRow;
use sqlx::{Executor, PgConnection, Row};

use super::database::{Database, DatabaseError};

struct Migration {
    version: i32,
    title: &'static str,
    up: &'static str,
    down: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// Serialises migrators; transaction-scoped, so it works through any pooler and dies with its holder.
const LOCK: &str = "select pg_advisory_xact_lock(7163384699216396289)";
const HISTORY: &str = include_str!("../../../schema/history.sql");
const READ_HISTORY: &str = include_str!("../../queries/read_schema_version.sql");
const RECORD: &str = include_str!("../../queries/record_migration.sql");
const FORGET: &str = include_str!("../../queries/forget_migration.sql");
const LOOK_AS_OWNER: &str = include_str!("../../queries/look_as_owner.sql");
const BECOME_OWNER: &str = include_str!("../../queries/become_owner.sql");

/// The script that makes the cluster's roles.
#[must_use]
pub fn roles_sql() -> &'static str {
    include_str!("../../../schema/roles.sql")
}

/// One migration and whether the database has it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct MigrationState {
    /// Its number.
    pub version: i32,
    /// What it does.
    pub title: String,
    /// Whether it is applied.
    pub applied: bool,
}

/// Why a binary and a schema do not go together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// There is no schema, or an older one.
    #[error(
        "the schema is at version {found}, this binary needs {needed}: run `lockgate migrate up`; nothing was changed"
    )]
    TooOld {
        /// What the database has; 0 means nothing.
        found: i32,
        /// What this binary needs.
        needed: i32,
    },
    /// The schema asks for newer writers.
    #[error(
        "the schema takes writers of version {min_writer} or newer, this binary knows {known}: deploy a newer binary; nothing was changed"
    )]
    TooNew {
        /// The oldest schema version whose binaries may write.
        min_writer: i32,
        /// The newest migration this binary knows.
        known: i32,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Applies and reverts migrations.
#[derive(Debug, Clone)]
pub struct Migrator {
    database: Database,
}

impl Migrator {
    /// A migrator for a database; give it the direct URL, not the pooler's.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// The newest version this binary knows.
    #[must_use]
    pub fn known_version() -> i32 {
        MIGRATIONS.last().map_or(0, |migration| migration.version)
    }

    /// Applies what is missing, oldest first, up to `to`; answers what was applied now.
    ///
    /// # Errors
    /// A migration failed and was rolled back; those before it stay.
    pub async fn up(&self, to: Option<i32>) -> Result<Vec<MigrationState>, DatabaseError> {
        let mut applied = Vec::new();
        for migration in MIGRATIONS
            .iter()
            .filter(|migration| to.is_none_or(|to| migration.version <= to))
        {
            let new = self
                .database
                .transaction(move |connection| {
                    Box::pin(async move {
                        // First of all: two migrators that grant at once fail each other.
                        connection.execute(LOCK).await?;
                        connection.execute(sqlx::raw_sql(BECOME_OWNER)).await?;
                        connection.execute(sqlx::raw_sql(HISTORY)).await?;
                        let fresh: bool = sqlx::query_scalar(RECORD)
                            .bind(migration.version)
                            .bind(migration.title)
                            .persistent(false)
                            .fetch_one(&mut *connection)
                            .await?;
                        if fresh {
                            connection.execute(sqlx::raw_sql(migration.up)).await?;
                        }
                        Ok(fresh)
                    })
                })
                .await?;
            if new {
                applied.push(state(migration, true));
            }
        }
        Ok(applied)
    }

    /// Reverts the newest migrations down to `to` (kept); answers what was reverted.
    ///
    /// # Errors
    /// A migration failed and was rolled back; those reverted before it stay reverted.
    pub async fn down(&self, to: i32) -> Result<Vec<MigrationState>, DatabaseError> {
        let mut reverted = Vec::new();
        for migration in MIGRATIONS.iter().rev().filter(|migration| migration.version > to) {
            let had = self
                .database
                .transaction(move |connection| {
                    Box::pin(async move {
                        // First of all: two migrators that grant at once fail each other.
                        connection.execute(LOCK).await?;
                        connection.execute(sqlx::raw_sql(BECOME_OWNER)).await?;
                        connection.execute(sqlx::raw_sql(HISTORY)).await?;
                        let had: bool = sqlx::query_scalar(FORGET)
                            .bind(migration.version)
                            .persistent(false)
                            .fetch_one(&mut *connection)
                            .await?;
                        if had {
                            connection.execute(sqlx::raw_sql(migration.down)).await?;
                        }
                        Ok(had)
                    })
                })
                .await?;
            if had {
                reverted.push(state(migration, false));
            }
        }
        Ok(reverted)
    }

    /// Every migration this binary knows, and whether it is applied.
    ///
    /// # Errors
    /// The database failed.
    pub async fn status(&self) -> Result<Vec<MigrationState>, DatabaseError> {
        let (applied, _) = self.history().await?;
        Ok(MIGRATIONS
            .iter()
            .map(|migration| state(migration, applied.contains(&migration.version)))
            .collect())
    }

    /// Whether this binary may write: the schema is new enough for it, and it for the schema.
    ///
    /// # Errors
    /// They do not go together, or the database failed.
    pub async fn check(&self) -> Result<(), SchemaError> {
        let (applied, min_writer) = self.history().await?;
        let known = Self::known_version();
        if min_writer > known {
            return Err(SchemaError::TooNew { min_writer, known });
        }
        // A schema with a hole is as old as the hole.
        let missing = MIGRATIONS
            .iter()
            .position(|migration| !applied.contains(&migration.version));
        match missing {
            None => Ok(()),
            Some(at) => {
                let found = at.checked_sub(1).map_or(0, |before| MIGRATIONS[before].version);
                Err(SchemaError::TooOld { found, needed: known })
            }
        }
    }

    async fn history(&self) -> Result<(Vec<i32>, i32), DatabaseError> {
        let found = match self.database.run(read_history).await {
            Err(error) if error.code() == Some("42501") => {
                let as_owner = self.database.transaction(|connection| {
                    Box::pin(async move {
                        connection.execute(sqlx::raw_sql(LOOK_AS_OWNER)).await?;
                        read_history(connection).await
                    })
                });
                as_owner.await
            }
            found => found,
        };
        match found {
            Ok(row) => Ok((row.try_get(0)?, row.try_get(1)?)),
            // No schema or no history table: nothing was ever applied.
            Err(error) if matches!(error.code(), Some("42P01" | "3F000")) => Ok((Vec::new(), 0)),
            Err(error) => Err(error),
        }
    }
}

fn read_history(connection: &mut PgConnection) -> BoxFuture<'_, Result<PgRow, sqlx::Error>> {
    Box::pin(sqlx::query(READ_HISTORY).persistent(false).fetch_one(connection))
}

fn state(migration: &Migration, applied: bool) -> MigrationState {
    MigrationState {
        version: migration.version,
        title: migration.title.replace('_', " "),
        applied,
    }
}
