//! What stands between us and the server, found out by trying.
//!
//! Two clients take turns in overlapping transactions. A pooler shows itself when one client meets two server
//! processes, or two clients meet the same one. Both clients prepare a statement that the driver gives the same name
//! in each; a pooler that does not track prepared statements then fails, or answers the one client with the
//! other's statement.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Executor, Row};

use super::database::{DatabaseError, DatabaseSettings, plain_options};

/// How often the two clients take turns; see `take_turns` for their order.
const TURNS: usize = 4;

/// What stands between us and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// Nothing that matters: each client keeps its server process.
    Direct,
    /// A transaction pooler that tracks prepared statements.
    TrackingPooler,
    /// A transaction pooler that does not.
    BarePooler,
    /// A pooler that does not even keep transactions together.
    StatementPooler,
}

/// Whether we may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolerVerdict {
    /// What was found.
    pub between: Between,
    /// Whether unnamed statements in explicit transactions are configured.
    pub pooler_mode: bool,
}

impl PoolerVerdict {
    /// Whether answers can be trusted.
    #[must_use]
    pub fn is_safe(self) -> bool {
        match self.between {
            Between::Direct | Between::TrackingPooler => true,
            Between::BarePooler => self.pooler_mode,
            Between::StatementPooler => false,
        }
    }

    /// What was found, in words.
    #[must_use]
    pub fn evidence(self) -> &'static str {
        match self.between {
            Between::Direct => "connections go straight to the server",
            Between::TrackingPooler => "a transaction pooler that tracks prepared statements",
            Between::BarePooler => "a transaction pooler that does not track prepared statements",
            Between::StatementPooler => "a pooler that does not keep transactions together",
        }
    }

    /// What to do when it is not safe.
    #[must_use]
    pub fn fix(self) -> &'static str {
        match self.between {
            Between::StatementPooler => "use transaction or session pooling",
            _ => {
                "set database.pooler_mode = true (LOCKGATE_DATABASE_POOLER_MODE=true), or use a pooler that tracks prepared statements"
            }
        }
    }
}

/// Finds out what stands between us and the server.
///
/// # Errors
/// The server cannot be reached, or did not answer in time.
pub async fn test_pooler(settings: &DatabaseSettings, within: Duration) -> Result<PoolerVerdict, DatabaseError> {
    let options = plain_options(settings)?.disable_statement_logging();
    let found = tokio::time::timeout(within, take_turns(&options)).await.map_err(|_| {
        DatabaseError::Unanswered(format!(
            "the pooler test had no answer within {}",
            humantime::format_duration(within)
        ))
    })??;
    Ok(PoolerVerdict {
        between: found,
        pooler_mode: settings.pooler_mode,
    })
}

/// One of the two clients.
struct Client {
    connection: PgConnection,
    sql: &'static str,
    answer: i32,
    pids: Vec<i32>,
}

/// What one question showed.
enum Asked {
    Answered,
    WrongAnswer,
    Refused,
}

impl Client {
    async fn connect(options: &PgConnectOptions, sql: &'static str, answer: i32) -> Result<Self, sqlx::Error> {
        Ok(Self {
            connection: options.connect().await?,
            sql,
            answer,
            pids: Vec::new(),
        })
    }

    /// Asks by a named statement: the first time it is prepared, later only its name is sent.
    async fn ask(&mut self) -> Result<Asked, sqlx::Error> {
        let row = match self.connection.fetch_one(sqlx::query(self.sql)).await {
            Ok(row) => row,
            Err(sqlx::Error::Database(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Protocol(_)) => {
                return Ok(Asked::Refused);
            }
            Err(error) => return Err(error),
        };
        let (pid, answer): (i32, i32) = (row.try_get(0)?, row.try_get(1)?);
        if answer != self.answer {
            return Ok(Asked::WrongAnswer);
        }
        if !self.pids.contains(&pid) {
            self.pids.push(pid);
        }
        Ok(Asked::Answered)
    }
}

async fn take_turns(options: &PgConnectOptions) -> Result<Between, sqlx::Error> {
    let mut one = Client::connect(options, "select pg_backend_pid(), 1", 1).await?;
    let mut two = Client::connect(options, "select pg_backend_pid(), 2", 2).await?;
    let mut found = None;
    for turn in 0..TURNS {
        // The same order twice shows a pooler that hands out the last used connection first, a changed order one that
        // goes round: each would be hidden by the other's pattern.
        let (first, second) = if turn / 2 % 2 == 0 {
            (&mut one, &mut two)
        } else {
            (&mut two, &mut one)
        };
        found = one_turn(first, second).await?;
        if found.is_some() {
            break;
        }
    }
    let shared = one.pids.iter().any(|pid| two.pids.contains(pid));
    let moved = one.pids.len() > 1 || two.pids.len() > 1;
    // Not closed in good order after a refusal: the connection may be out of step.
    drop((one.connection, two.connection));
    Ok(match found {
        Some(between) => between,
        None if shared || moved => Between::TrackingPooler,
        None => Between::Direct,
    })
}

async fn one_turn(first: &mut Client, second: &mut Client) -> Result<Option<Between>, sqlx::Error> {
    for client in [&mut *first, &mut *second] {
        if client.connection.execute(sqlx::raw_sql("begin")).await.is_err() {
            return Ok(Some(Between::StatementPooler));
        }
        if !matches!(client.ask().await?, Asked::Answered) {
            return Ok(Some(Between::BarePooler));
        }
    }
    for client in [first, second] {
        client.connection.execute(sqlx::raw_sql("commit")).await?;
    }
    Ok(None)
}
