//! Who may do what, and how often. A token is looked up once every few seconds, not once a request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, StatusCode, header};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use super::problem::Problem;
use super::token::{ROLES, is_token, token_hash};
use crate::config::Secret;
use crate::postgres::{ApiTokens, TokenFacts, TokenHash};

/// How long an answer about a token is believed: what revoking one takes at most, beside one look.
const BELIEVED: Duration = Duration::from_secs(3);
/// How long a look may take.
const LOOK: Duration = Duration::from_secs(1);
/// How long a token that was good is good while the database does not answer: commands go on through an outage.
const BENEFIT: Duration = Duration::from_secs(5 * 60);
/// Looks at once: strangers' tokens must not take the database's connections.
const LOOKS: usize = 4;
/// Tokens remembered; strangers' go first when there are more.
const REMEMBERED: usize = 10_000;
/// Name of the token that the configuration sets.
const CONFIGURED: &str = "configured";

/// What a request needs to be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Hand over commands.
    Send,
    /// Start runs and act on them.
    Operate,
    /// Look at runs.
    Read,
}

impl Role {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Operate => "operate",
            Self::Read => "read",
        }
    }
}

/// Whoever made a request that is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// Name of the token, for the record.
    pub(super) name: String,
}

/// Lets requests through by their tokens.
pub(super) struct Gate {
    tokens: ApiTokens,
    configured: Option<(TokenHash, Arc<Entry>)>,
    known: Mutex<HashMap<TokenHash, Arc<Entry>>>,
    looks: Semaphore,
    quota: Quota,
}

/// What is known of one token.
struct Entry {
    facts: tokio::sync::Mutex<Known>,
    rate: DefaultDirectRateLimiter,
}

#[derive(Default)]
struct Known {
    facts: Option<TokenFacts>,
    /// When the database was asked last.
    asked: Option<Instant>,
    /// When it answered last.
    heard: Option<Instant>,
}

impl Gate {
    pub(super) fn new(tokens: ApiTokens, configured: Option<&Secret>, quota: Quota) -> Self {
        let configured = configured.map(|token| {
            let facts = TokenFacts {
                name: CONFIGURED.to_owned(),
                roles: ROLES.map(str::to_owned).to_vec(),
            };
            (token_hash(token.expose()), Arc::new(Entry::new(Some(facts), quota)))
        });
        Self {
            tokens,
            configured,
            known: Mutex::default(),
            looks: Semaphore::new(LOOKS),
            quota,
        }
    }

    /// Lets a request through, or says why not.
    pub(super) async fn admit(&self, headers: &HeaderMap, role: Role) -> Result<Caller, Problem> {
        let stranger = || {
            Problem::new(
                StatusCode::UNAUTHORIZED,
                "give a valid token as `Authorization: Bearer TOKEN`",
            )
        };
        let token = bearer(headers).ok_or_else(stranger)?;
        let hash = token_hash(token);
        let (entry, facts) = match &self.configured {
            Some((configured, entry)) if bool::from(configured.ct_eq(&hash)) => {
                (entry.clone(), entry.facts.lock().await.facts.clone())
            }
            _ if !is_token(token) => return Err(stranger()),
            _ => {
                let entry = self.entry(hash);
                let facts = self.look(&entry, hash).await?;
                (entry, facts)
            }
        };
        let facts = facts.ok_or_else(stranger)?;
        if let Err(busy) = entry.rate.check() {
            let wait = busy.wait_time_from(DefaultClock::default().now());
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "this token makes too many requests");
            return Err(problem.retry_after(wait.as_secs() + 1));
        }
        if !facts.roles.iter().any(|has| has == role.name()) {
            let detail = format!("this token does not have the role {}", role.name());
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        Ok(Caller { name: facts.name })
    }

    fn entry(&self, hash: TokenHash) -> Arc<Entry> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            // Those in use and those that are good stay.
            known.retain(|_, entry| entry.facts.try_lock().map_or(true, |known| known.facts.is_some()));
        }
        let fresh = || Arc::new(Entry::new(None, self.quota));
        known.entry(hash).or_insert_with(fresh).clone()
    }

    /// What is known of a token, asking the database when that is old. One asks; the others of the same token wait.
    async fn look(&self, entry: &Entry, hash: TokenHash) -> Result<Option<TokenFacts>, Problem> {
        let mut known = entry.facts.lock().await;
        if known.asked.is_some_and(|asked| asked.elapsed() < BELIEVED) {
            // Asked a moment ago: also for those who waited for an answer that did not come.
            return match known.heard {
                Some(_) => Ok(known.facts.clone()),
                None => Err(unchecked()),
            };
        }
        let look = async {
            let _permit = self.looks.acquire().await.ok()?;
            match self.tokens.check(hash).await {
                Ok(facts) => Some(facts),
                Err(error) => {
                    tracing::warn!(name: "token_not_checked", %error, "a token could not be checked");
                    None
                }
            }
        };
        let answer = tokio::time::timeout(LOOK, look).await.ok().flatten();
        known.asked = Some(Instant::now());
        match answer {
            Some(facts) => {
                known.facts = facts;
                known.heard = known.asked;
                Ok(known.facts.clone())
            }
            None if known.heard.is_some_and(|heard| heard.elapsed() < BENEFIT) => Ok(known.facts.clone()),
            None => {
                known.heard = None;
                Err(unchecked())
            }
        }
    }
}

fn unchecked() -> Problem {
    Problem::unavailable("the token cannot be checked now: the database does not answer")
}

impl Entry {
    fn new(facts: Option<TokenFacts>, quota: Quota) -> Self {
        Self {
            facts: tokio::sync::Mutex::new(Known {
                facts,
                ..Known::default()
            }),
            rate: RateLimiter::direct(quota),
        }
    }
}

/// The token that a request carries.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
