//! One way to talk to Postgres: every call runs in a task of its own, under a deadline, and is never cancelled.
//!
//! A cancelled `begin` leaves a pooled connection in an open transaction whose later writes vanish, and a frozen
//! server never answers. So no future that holds a connection is ever dropped half way by a caller, and a connection
//! that did not answer in time is closed, never returned.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection};
use std::str::FromStr;

use super::connections::Connections;
use super::doubt::{ANSWER, Doubt, is_of_connection};
use super::pool_meter::PoolMeter;
use crate::telemetry::closed::Pool;

/// How to reach the database.
#[derive(Clone)]
pub struct DatabaseSettings {
    /// Where; may hold a password and is never printed.
    pub url: String,
    /// Most connections of this process.
    pub max_connections: u32,
    /// How long one call may take.
    pub deadline: Duration,
    /// The server is behind a transaction pooler that does not track prepared statements.
    pub pooler_mode: bool,
    /// The server ends our transaction when it idles this long.
    pub idle_in_transaction: Duration,
}

impl DatabaseSettings {
    /// The defaults for a URL.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            max_connections: 12,
            deadline: Duration::from_secs(20),
            pooler_mode: false,
            idle_in_transaction: Duration::from_secs(10),
        }
    }
}

impl std::fmt::Debug for DatabaseSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatabaseSettings")
            .field("max_connections", &self.max_connections)
            .field("deadline", &self.deadline)
            .field("pooler_mode", &self.pooler_mode)
            .finish_non_exhaustive()
    }
}

/// Why a call failed. Holds neither the URL nor values of the statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// The URL cannot be used.
    #[error("DATABASE_URL cannot be used: {0}")]
    BadUrl(String),
    /// No connection, or it broke, or no answer in time: whether anything changed is not known.
    #[error("{0}")]
    Unanswered(String),
    /// The call took longer than it may: whether anything changed is not known.
    #[error("no answer within {}", humantime::format_duration(*.0))]
    TooSlow(Duration),
    /// The server answered with an error and the call changed nothing.
    #[error("{message} (SQLSTATE {code})")]
    Refused {
        /// The SQLSTATE.
        code: String,
        /// The server's message; its detail, which can quote values, is left out.
        message: String,
    },
}

impl DatabaseError {
    /// Whether it was done is not known.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        matches!(self, Self::Unanswered(_) | Self::TooSlow(_))
    }

    /// Of an act that is done page by page, how much was done before this one: `5 commands were moved before`.
    pub(crate) fn done_before(&self, done: impl std::fmt::Display) -> String {
        let perhaps = match self.is_unanswered() {
            true => ", and perhaps a page more",
            false => "",
        };
        format!("{done} before{perhaps}")
    }

    /// The SQLSTATE, when the server answered.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether the same values would be refused again: by what they are, not by the state of the server.
    #[must_use]
    pub fn is_for_good(&self) -> bool {
        const DATA: &str = "22";
        const CONSTRAINT: &str = "23";
        const PROGRAM_LIMIT: &str = "54";
        let classes = [DATA, CONSTRAINT, PROGRAM_LIMIT];
        self.code()
            .is_some_and(|code| classes.iter().any(|class| code.starts_with(class)))
    }

    /// Whether the work of a transaction is refused, by its values or by a rule of its tables, whatever the rule's code. All
    /// other classes are about the connection, the server or the set-up, and may pass.
    #[must_use]
    pub fn is_of_the_work(&self) -> bool {
        const NOT: [&str; 17] = [
            "08", "0A", "25", "26", "28", "3D", "3F", "40", "42", "53", "55", "57", "58", "72", "F0", "HV", "XX",
        ];
        self.code()
            .is_some_and(|code| !NOT.iter().any(|class| code.starts_with(class)))
    }

    /// Whether something is there under the same key.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.code() == Some("23505")
    }

    /// Whether it is about how this client is set up (who it is, what it may, what is there): waiting repairs nothing.
    pub(crate) fn is_of_the_setup(&self) -> bool {
        const SETUP: [&str; 4] = ["28", "3D", "3F", "42"];
        matches!(self, Self::BadUrl(_))
            || self
                .code()
                .is_some_and(|code| SETUP.iter().any(|class| code.starts_with(class)))
    }

    /// Whether the server gave way to somebody else, or to its time limit, and the same may go well the next time.
    pub(crate) fn gave_way(&self) -> bool {
        matches!(self.code(), Some("40001" | "40P01" | "55P03" | "57014"))
    }

    /// Whether trying again can help: the server may come up, but wrong credentials stay wrong.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unanswered(_) | Self::TooSlow(_) => true,
            Self::BadUrl(_) => false,
            Self::Refused { code, .. } => matches!(code.as_str(), "53300" | "57P01" | "57P02" | "57P03"),
        }
    }
}

impl From<sqlx::Error> for DatabaseError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(server) => Self::Refused {
                code: server.code().unwrap_or_default().into_owned(),
                message: server.message().to_owned(),
            },
            sqlx::Error::PoolTimedOut => Self::Unanswered("no connection became free in time".to_owned()),
            sqlx::Error::Io(io) => Self::Unanswered(format!("connection failed: {io}")),
            sqlx::Error::Configuration(why) => Self::BadUrl(why.to_string()),
            other => Self::Unanswered(other.to_string()),
        }
    }
}

/// Where and who, without anything that a pooler might refuse.
pub(super) fn plain_options(settings: &DatabaseSettings) -> Result<PgConnectOptions, DatabaseError> {
    let bad = || DatabaseError::BadUrl("not a Postgres URL, expected postgres://user@host:port/database".into());
    // The driver takes any scheme and falls back to this machine, which may be somebody else's server.
    if !["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| settings.url.starts_with(scheme))
    {
        return Err(bad());
    }
    let options = PgConnectOptions::from_str(&settings.url).map_err(|_| bad())?;
    Ok(options.application_name("lockgate"))
}

/// How every connection of a pool is made.
pub(super) fn connect_options(settings: &DatabaseSettings) -> Result<PgConnectOptions, DatabaseError> {
    let options = plain_options(settings)?.disable_statement_logging();
    if settings.pooler_mode {
        // Poolers refuse unknown startup parameters, and a cached name may be another client's statement.
        return Ok(options.statement_cache_capacity(0));
    }
    let idle = settings.idle_in_transaction.as_millis().to_string();
    // Errors are answers and reach us anyway; the server's warnings would only fill the log.
    Ok(options.options([
        ("idle_in_transaction_session_timeout", idle.as_str()),
        // Compiling a question over the views takes longer than answering it.
        ("jit", "off"),
        ("client_min_messages", "error"),
    ]))
}

/// A pool of connections with deadlines.
#[derive(Clone, Debug)]
pub struct Database {
    connections: Arc<Connections>,
    /// What it is called where it is asked for.
    namespace: Arc<str>,
    deadline: Duration,
    /// A kept connection is asked whether it works before it is used for something.
    sure: bool,
    pooler_mode: bool,
    idle_in_transaction: Duration,
    meter: Arc<PoolMeter>,
}

impl Database {
    /// Sets the pool up; connections are made when first needed.
    ///
    /// # Errors
    /// The URL cannot be used.
    pub fn new(settings: &DatabaseSettings) -> Result<Self, DatabaseError> {
        Ok(Self::with_options(settings, connect_options(settings)?))
    }

    fn with_options(settings: &DatabaseSettings, options: PgConnectOptions) -> Self {
        // The server takes the user's name where no database is named.
        let namespace = options.get_database().unwrap_or_else(|| options.get_username());
        let namespace = Arc::<str>::from(namespace);
        let doubt = Arc::<Doubt>::default();
        let doubted = doubt.clone();
        let pool = PgPoolOptions::new()
            .max_connections(settings.max_connections)
            .acquire_timeout(settings.deadline)
            .test_before_acquire(false)
            .before_acquire(move |connection, meta| {
                let doubt = doubted.clone();
                Box::pin(async move {
                    let now = Instant::now();
                    let used = now.checked_sub(meta.idle_for).unwrap_or(now);
                    doubt.usable(connection, used).await
                })
            })
            .connect_lazy_with(options);
        Self {
            connections: Arc::new(Connections::of(pool, doubt)),
            namespace,
            deadline: settings.deadline,
            sure: true,
            pooler_mode: settings.pooler_mode,
            idle_in_transaction: settings.idle_in_transaction,
            meter: Arc::new(PoolMeter::new(Pool::Client)),
        }
    }

    /// The same, told of under this name.
    #[must_use]
    pub(crate) fn named(mut self, whose: Pool) -> Self {
        self.meter = Arc::new(PoolMeter::new(whose));
        self
    }

    /// A pool for statements that carry arrays of keys: they are planned once, each key through its index, also when
    /// the tables were empty at the time. In pooler mode sessions are shared, and the server plans as it likes.
    ///
    /// # Errors
    /// The URL cannot be used.
    pub fn for_groups(settings: &DatabaseSettings) -> Result<Self, DatabaseError> {
        let mut options = connect_options(settings)?;
        if !settings.pooler_mode {
            options = options.options([
                ("plan_cache_mode", "force_generic_plan"),
                ("enable_hashjoin", "off"),
                ("enable_mergejoin", "off"),
                ("enable_seqscan", "off"),
            ]);
        }
        Ok(Self::with_options(settings, options))
    }

    /// Whether statements must be unnamed and wrapped in transactions.
    #[must_use]
    pub fn pooler_mode(&self) -> bool {
        self.pooler_mode
    }

    /// The name of the database as its URL has it, which a pooler may make another of.
    pub(crate) fn namespace(&self) -> Arc<str> {
        self.namespace.clone()
    }

    /// How long one call may take.
    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The same connections for calls that are tried again soon: each waits for a connection, and for its answer, only as long as
    /// a server that works takes, and asks no connection before whether it works, for a dead one costs no more than that.
    pub(super) fn hasty(&self) -> Self {
        Self {
            deadline: ANSWER.min(self.deadline),
            sure: false,
            ..self.clone()
        }
    }

    /// A static statement in the mode of this database.
    pub(crate) fn statement(
        &self,
        sql: &'static str,
    ) -> sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments> {
        sqlx::query(sql).persistent(!self.pooler_mode)
    }

    /// Runs one statement's work. It commits by itself; in pooler mode it gets a transaction.
    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>> + Send + 'static,
    {
        if self.pooler_mode {
            return self.transaction(work).await;
        }
        self.on_connection(move |connection| work(connection)).await
    }

    /// Runs several statements in one transaction: all of them are committed, or none.
    pub(crate) async fn transaction<T, F>(&self, work: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>> + Send + 'static,
    {
        let decided = self.decided_transaction(move |connection| {
            let done = work(connection);
            Box::pin(async move { Ok(Ok::<T, Infallible>(done.await?)) })
        });
        decided.await.map(|Ok(value)| value)
    }

    /// The same for work that may decide against itself: the inner error takes all of it back.
    pub(crate) async fn decided_transaction<T, E, F>(&self, work: F) -> Result<Result<T, E>, DatabaseError>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<Result<T, E>, sqlx::Error>> + Send + 'static,
    {
        // Behind a pooler a session's settings are anybody's: there each transaction says for itself how long it may idle.
        let bound = self.pooler_mode.then_some(self.idle_in_transaction);
        self.on_connection(move |connection| {
            Box::pin(async move {
                let mut transaction = connection.begin().await?;
                if let Some(idle) = bound {
                    bound_idling(&mut transaction, idle).await?;
                }
                let decided = work(&mut transaction).await;
                match &decided {
                    Ok(Ok(_)) => transaction.commit().await?,
                    Ok(Err(_)) => transaction.rollback().await?,
                    // The server may have ended it, and the connection with it: what the work met says why.
                    Err(_) => drop(transaction.rollback().await),
                }
                decided
            })
        })
        .await
    }

    async fn on_connection<T, F>(&self, work: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>> + Send + 'static,
    {
        let (connections, deadline, meter) = (self.connections.clone(), self.deadline, self.meter.clone());
        let patience = (!self.sure).then_some(deadline);
        let task = tokio::spawn(async move {
            let begin = Instant::now();
            let lent = connections.lend(patience).await;
            meter.waited(&connections, begin.elapsed(), lent.as_ref().map(drop));
            let mut connection = lent?;
            let asked = Instant::now();
            // One that is dropped is closed.
            match tokio::time::timeout(deadline, work(&mut connection)).await {
                Ok(Ok(value)) => {
                    connection.keep();
                    Ok(value)
                }
                Ok(Err(error)) => {
                    if is_of_connection(&error) {
                        connections.doubt(asked);
                    }
                    // A broken or demoted server's connection is of no use to anybody.
                    if matches!(&error, sqlx::Error::Database(server) if server.code().as_deref() != Some(READ_ONLY)) {
                        connection.give_back();
                    }
                    Err(DatabaseError::from(error))
                }
                Err(_) => {
                    connections.doubt(asked);
                    Err(DatabaseError::TooSlow(deadline))
                }
            }
        });
        task.await
            .map_err(|error| DatabaseError::Unanswered(format!("the call ended early: {error}")))?
    }

    /// A connection of its own, outside the deadlines, as for a snapshot; dropping it closes it.
    pub(crate) async fn own_connection(&self) -> Result<PgConnection, sqlx::Error> {
        Ok(self.connections.lend(None).await?.detach())
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.connections.close().await;
    }
}

const BOUND_IDLING: &str = include_str!("../../queries/bound_idling.sql");
const READ_ONLY: &str = "25006";

/// The server ends the transaction when it idles for longer: its client is frozen or gone, and its locks hold others up.
async fn bound_idling(transaction: &mut PgConnection, idle: Duration) -> Result<(), sqlx::Error> {
    sqlx::query(BOUND_IDLING)
        .persistent(false)
        .bind(idle.as_millis().to_string())
        .execute(transaction)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_values_are_is_refused_for_good() {
        let refused = |code: &str| DatabaseError::Refused {
            code: code.to_owned(),
            message: String::new(),
        };
        for code in ["22021", "22P05", "23514", "54000"] {
            assert!(refused(code).is_for_good() && refused(code).is_of_the_work(), "{code}");
        }
        for code in ["P0001", "LG001", "44000"] {
            assert!(!refused(code).is_for_good() && refused(code).is_of_the_work(), "{code}");
        }
        for code in [
            "53100", "53200", "53300", "25006", "40001", "40P01", "55P03", "57014", "57P01", "42501",
        ] {
            assert!(
                !refused(code).is_for_good() && !refused(code).is_of_the_work(),
                "{code}"
            );
        }
        let unanswered = DatabaseError::Unanswered("22021".to_owned());
        assert!(!unanswered.is_for_good() && !unanswered.is_of_the_work());
    }
}
