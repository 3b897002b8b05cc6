//! Whether this process lives, and whether requests should be sent here. What is known is that of [`crate::health`]; why is
//! told at its listener, for this one may be open to strangers.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;

use super::Api;
use super::problem::Problem;

/// How it is.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Health {
    /// `live` or `ready`.
    status: &'static str,
}

/// `GET /healthz`.
pub(super) async fn live(State(api): State<Api>) -> Result<Json<Health>, Problem> {
    match api.health.live().ok {
        true => Ok(Json(Health { status: "live" })),
        false => Err(Problem::unavailable("a loop of this replica stands still")),
    }
}

/// `GET /readyz`. An outage of Postgres or Kafka alone takes no replica out: the other one still makes commands durable,
/// and all replicas see the same outage.
pub(super) async fn ready(State(api): State<Api>) -> Result<Json<Health>, Problem> {
    if api.stop.is_cancelled() {
        return Err(Problem::unavailable("this replica is draining"));
    }
    match api.health.turns_away() {
        Some(why) => Err(Problem::unavailable(why)),
        None => Ok(Json(Health { status: "ready" })),
    }
}
