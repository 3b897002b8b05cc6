//! `tokens create|list|revoke`: who may use the HTTP API.

use std::time::Duration;

use clap::builder::PossibleValuesParser;
use serde::Serialize;
use uuid::Uuid;

use super::output::{or_dash, time};
use super::{Context, Exit, Failure, Outcome};
use crate::api::{ROLES, fresh_token, token_hash};
use crate::postgres::{ApiTokens, DatabaseError, NewToken, TokenSummary};

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Make a token and print it, this once; the database keeps its hash
    Create {
        /// Whom it is for; recorded as the actor of what is done with it
        #[arg(value_parser = parse_name)]
        name: String,
        /// What it may do: send commands, operate runs, read
        #[arg(long, required = true, value_delimiter = ',', value_parser = PossibleValuesParser::new(ROLES))]
        roles: Vec<String>,
        /// It is valid for so long; without it for ever
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        expires: Option<Duration>,
    },
    /// Tokens, newest first
    List,
    /// Revoke the token of this name; replicas refuse it within seconds
    Revoke {
        /// Its name
        name: String,
    },
}

#[derive(Serialize)]
struct Created<'a> {
    token: String,
    id: Uuid,
    name: &'a str,
}

impl Command {
    pub(super) async fn execute(self, context: &Context) -> Outcome {
        let tokens = ApiTokens::new(context.database().await?, context.actor.clone());
        match self {
            Self::Create { name, roles, expires } => create(context, &tokens, name, roles, expires).await,
            Self::List => {
                let columns = [
                    "name",
                    "roles",
                    "created_at",
                    "created_by",
                    "expires_at",
                    "revoked_at",
                    "last_used_at",
                ];
                context.output.list(&columns, &tokens.list().await?, cells)?;
                Ok(Exit::Ok)
            }
            Self::Revoke { name } => {
                if !tokens.revoke(&name).await.map_err(Failure::of_write)? {
                    let what = format!("no token in force has the name {name}");
                    return Err(Failure::new(Exit::NotFound, what).hint("see `tokens list`"));
                }
                let answer = serde_json::json!({ "name": name, "revoked": true });
                context.output.done(&answer, || format!("{name}\trevoked\n"))
            }
        }
    }
}

async fn create(
    context: &Context,
    tokens: &ApiTokens,
    name: String,
    roles: Vec<String>,
    expires: Option<Duration>,
) -> Outcome {
    let token = fresh_token();
    let new = NewToken {
        id: Uuid::now_v7(),
        name: name.clone(),
        hash: token_hash(&token),
        roles,
        valid_for: expires,
    };
    let id = new.id;
    tokens.create(new).await.map_err(|error| refused(&name, error))?;
    let created = Created { token, id, name: &name };
    context.output.done(&created, || format!("{}\n", created.token))
}

fn refused(name: &str, error: DatabaseError) -> Failure {
    match error.code() {
        Some("23505") => Failure::new(Exit::Conflict, format!("a token in force has the name {name}"))
            .hint("use another name, or revoke that one first"),
        Some("22008") => {
            Failure::new(Exit::Usage, "--expires is too far away").hint("leave it out for a token without end")
        }
        _ => Failure::of_write(error),
    }
}

fn cells(token: &TokenSummary) -> Vec<String> {
    vec![
        token.name.clone(),
        token.roles.join(","),
        time(&token.created_at),
        token.created_by.clone(),
        or_dash(token.expires_at.as_ref(), time),
        or_dash(token.revoked_at.as_ref(), time),
        or_dash(token.last_used_at.as_ref(), time),
    ]
}

fn parse_name(text: &str) -> Result<String, String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(legal) {
        return Ok(text.to_owned());
    }
    Err("expected 1 to 64 letters, digits, dots, underscores and hyphens".to_owned())
}
