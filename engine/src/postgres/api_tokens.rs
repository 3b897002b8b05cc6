//! Tokens of the HTTP API: made, listed and revoked by operators, checked by replicas.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::database::{Database, DatabaseError};
use super::inspect::{document, documents};

const CREATE_API_TOKEN: &str = include_str!("../../queries/create_api_token.sql");
const LIST_API_TOKENS: &str = include_str!("../../queries/list_api_tokens.sql");
const REVOKE_API_TOKEN: &str = include_str!("../../queries/revoke_api_token.sql");
const CHECK_API_TOKEN: &str = include_str!("../../queries/check_api_token.sql");

/// SHA-256 of a token.
pub type TokenHash = [u8; 32];

/// A token to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Its id.
    pub id: Uuid,
    /// Whom it is for.
    pub name: String,
    /// What stands for it in the table.
    pub hash: TokenHash,
    /// What it may do.
    pub roles: Vec<String>,
    /// It is valid for so long; none: for ever.
    pub valid_for: Option<Duration>,
}

/// A token as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSummary {
    /// Its id.
    pub id: Uuid,
    /// Whom it is for.
    pub name: String,
    /// What it may do.
    pub roles: Vec<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Who made it.
    pub created_by: String,
    /// Not valid from then on.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// Who revoked it.
    pub revoked_by: Option<String>,
    /// When it was last used, exact to a minute.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// Whose token it is and what it may do.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TokenFacts {
    /// Whom it is for.
    pub name: String,
    /// What it may do.
    pub roles: Vec<String>,
}

/// The tokens of a database.
#[derive(Debug, Clone)]
pub struct ApiTokens {
    database: Database,
    actor: Option<String>,
}

impl ApiTokens {
    /// Acts on a database in somebody's name; none: the name of the database role is recorded.
    #[must_use]
    pub fn new(database: Database, actor: Option<String>) -> Self {
        Self { database, actor }
    }

    /// Makes a token.
    ///
    /// # Errors
    /// A token in force has the name (SQLSTATE 23505), a value cannot be (23514, 22008), or the database failed.
    pub async fn create(&self, token: NewToken) -> Result<(), DatabaseError> {
        let query = self
            .database
            .statement(CREATE_API_TOKEN)
            .bind(token.id)
            .bind(token.name)
            .bind(token.hash)
            .bind(token.roles)
            .bind(token.valid_for.map(|valid| valid.as_secs_f64()))
            .bind(self.actor.clone());
        self.database
            .run(move |connection| Box::pin(async move { query.execute(&mut *connection).await.map(drop) }))
            .await
    }

    /// Tokens, newest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn list(&self) -> Result<Vec<TokenSummary>, DatabaseError> {
        documents(&self.database, self.database.statement(LIST_API_TOKENS)).await
    }

    /// Revokes the token of a name; false: no token in force has it.
    ///
    /// # Errors
    /// The database failed.
    pub async fn revoke(&self, name: &str) -> Result<bool, DatabaseError> {
        let query = self.database.statement(REVOKE_API_TOKEN).bind(name.to_owned());
        let revoked = document(&self.database, query.bind(self.actor.clone())).await?;
        Ok(revoked.unwrap_or(false))
    }

    /// Whose token has this hash; none: it is unknown, expired or revoked.
    ///
    /// # Errors
    /// The database failed.
    pub async fn check(&self, hash: TokenHash) -> Result<Option<TokenFacts>, DatabaseError> {
        document(&self.database, self.database.statement(CHECK_API_TOKEN).bind(hash)).await
    }
}
