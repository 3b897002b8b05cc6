//! What every command is given.

use std::sync::Arc;
use std::time::Duration;

use super::connect::reach;
use super::{Failure, Host, Output};
use crate::config::{Config, Loaded};
use crate::postgres::{Database, DatabaseSettings, Inspector, Migrator, Operator};

/// How long a command waits for a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// What every command is given.
pub struct Context {
    /// The binary.
    pub host: Arc<dyn Host>,
    /// The configuration and where its values came from.
    pub loaded: Loaded,
    /// Where data goes.
    pub output: Output,
    /// In whose name.
    pub actor: Option<String>,
}

impl Context {
    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.loaded.config
    }

    /// The database, reached and with a schema that fits this binary.
    ///
    /// # Errors
    /// It cannot be reached, or the schema does not fit.
    pub async fn database(&self) -> Result<Database, Failure> {
        self.database_within(self.config().database.deadline).await
    }

    /// The same, with calls that may take so long.
    ///
    /// # Errors
    /// It cannot be reached, or the schema does not fit.
    pub async fn database_within(&self, deadline: Duration) -> Result<Database, Failure> {
        let database = connect(self.config().database_settings()?, deadline).await?;
        Migrator::new(database.clone()).check().await?;
        Ok(database)
    }

    /// The database past any pooler, reached, with whatever schema it has, for migrations.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn direct_database(&self, deadline: Duration) -> Result<Database, Failure> {
        connect(self.config().direct_settings()?, deadline).await
    }

    /// The read side.
    ///
    /// # Errors
    /// As [`Context::database`].
    pub async fn inspector(&self) -> Result<Inspector, Failure> {
        Ok(Inspector::new(self.database().await?))
    }

    /// What an operator does.
    ///
    /// # Errors
    /// As [`Context::database`].
    pub async fn operator(&self) -> Result<Operator, Failure> {
        Ok(Operator::new(self.database().await?, self.actor.clone()))
    }
}

async fn connect(mut settings: DatabaseSettings, deadline: Duration) -> Result<Database, Failure> {
    // One command does one thing at a time.
    settings.max_connections = settings.max_connections.min(2);
    settings.deadline = deadline;
    reach(&settings, PATIENCE).await?;
    Ok(Database::new(&settings)?)
}
