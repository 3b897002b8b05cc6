//! One connection outside the pool, to learn at once why the server cannot be used.
//!
//! The pool tries again and again until its deadline and then says only that no connection became free.

use std::time::Duration;

use sqlx::types::Json;
use sqlx::{ConnectOptions, Connection, Executor, Row};

use super::database::{Database, DatabaseError, DatabaseSettings, connect_options};
use super::inspect::{document, documents};
use chrono::{DateTime, Utc};

const PROBE: &str = include_str!("../../queries/probe.sql");
const READ_SERVER_FACTS: &str = include_str!("../../queries/read_server_facts.sql");
const READ_PRIVILEGES: &str = include_str!("../../queries/read_privileges.sql");
const ROLE_OF_PEOPLE: &str = include_str!("../../queries/role_of_people.sql");

/// The server's version.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct ServerVersion {
    /// As a number, such as 150018.
    pub version_num: i32,
    /// In words.
    pub version: String,
    /// It takes no writes, as a standby does.
    pub read_only: bool,
}

impl ServerVersion {
    /// The part that counts, such as 15.
    #[must_use]
    pub fn major(&self) -> i32 {
        self.version_num / 10_000
    }
}

/// Whether the server answers now.
///
/// # Errors
/// Why not.
pub async fn probe(settings: &DatabaseSettings, within: Duration) -> Result<ServerVersion, DatabaseError> {
    let options = connect_options(settings)?.disable_statement_logging();
    let asked = async {
        let mut connection = options.connect().await?;
        // In a transaction and unnamed, so that it is right through any pooler.
        let mut transaction = connection.begin().await?;
        let row = transaction.fetch_one(sqlx::query(PROBE).persistent(false)).await?;
        transaction.rollback().await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(row)
    };
    let row = tokio::time::timeout(within, asked)
        .await
        .map_err(|_| DatabaseError::TooSlow(within))??;
    Ok(row.try_get::<Json<ServerVersion>, _>(0)?.0)
}

/// What the doctor looks at on the server side.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
pub struct ServerFacts {
    /// The database clock.
    pub clock: DateTime<Utc>,
    /// It is a standby.
    pub in_recovery: bool,
    /// It takes no writes.
    pub read_only: bool,
    /// Its limit of connections.
    pub max_connections: i64,
    /// Of which this many are kept for superusers.
    pub reserved_connections: i64,
    /// The role's own limit; negative or none: no limit.
    pub role_connection_limit: Option<i64>,
    /// When it ends transactions that idle; 0: never.
    pub idle_in_transaction_ms: i64,
    /// Whether commits wait for the disk.
    pub synchronous_commit: String,
    /// Whether anything waits for the disk.
    pub fsync: bool,
    /// The connected role.
    pub current_user: String,
}

impl Database {
    /// Settings and state of the server.
    ///
    /// # Errors
    /// The database failed.
    pub async fn server_facts(&self) -> Result<ServerFacts, DatabaseError> {
        document(self, self.statement(READ_SERVER_FACTS))
            .await?
            .ok_or_else(|| DatabaseError::Unanswered("the server gave no answer".to_owned()))
    }

    /// What the connected role may not do of what a replica does.
    ///
    /// # Errors
    /// The database failed, or has no schema.
    pub async fn missing_privileges(&self) -> Result<Vec<String>, DatabaseError> {
        documents(self, self.statement(READ_PRIVILEGES)).await
    }

    /// Which of the roles for people the connected one is or is a member of; none: it may be a replica's.
    ///
    /// # Errors
    /// The database failed.
    pub async fn role_of_people(&self) -> Result<Option<String>, DatabaseError> {
        document(self, self.statement(ROLE_OF_PEOPLE)).await
    }

    /// Makes the cluster's roles; safe to run again.
    ///
    /// # Errors
    /// The database failed; nothing was changed.
    pub async fn make_roles(&self) -> Result<(), DatabaseError> {
        self.transaction(|connection| {
            Box::pin(async move { connection.execute(sqlx::raw_sql(super::roles_sql())).await.map(|_| ()) })
        })
        .await
    }
}
