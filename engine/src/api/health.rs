//! Whether this process lives, and whether requests should be sent here.

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
pub(super) async fn live() -> Json<Health> {
    Json(Health { status: "live" })
}

/// `GET /readyz`. An outage of Postgres or Kafka alone takes no replica out: the other one still makes commands durable,
/// and all replicas see the same outage.
pub(super) async fn ready(State(api): State<Api>) -> Result<Json<Health>, Problem> {
    if api.stop.is_cancelled() {
        return Err(Problem::unavailable("this replica is draining"));
    }
    Ok(Json(Health { status: "ready" }))
}
