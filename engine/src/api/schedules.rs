//! Past slots of schedules made good.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Api;
use super::body::{JSON, media_type, read};
use super::gate::Role;
use super::problem::Problem;
use super::runs::{LARGEST_START, check_instant, check_text, document};
use crate::inspect::BackfilledSlot;
use crate::postgres::{Backfill, NotBackfilled, Schedules};

/// A range of slots to be made good.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BackfillRequest {
    /// The first instant.
    from: DateTime<Utc>,
    /// Up to here, exclusively; now when not given.
    to: Option<DateTime<Utc>>,
    /// So many runs go on at once, of those for past slots and those that the schedule fired in the range; one when not given.
    #[schemars(range(min = 1, max = 10_000))]
    at_once: Option<u32>,
    /// Nothing is started.
    #[serde(default)]
    dry_run: bool,
}

/// What became of the slots of a range.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Backfilled {
    /// The slots in their order.
    slots: Vec<BackfilledSlot>,
}

/// `POST /api/v1/schedules/{name}/backfill`.
pub(super) async fn backfill(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Backfilled>, Problem> {
    let caller = api.gate.admit(&headers, Role::Operate).await?;
    check_text("name", Some(&name))?;
    media_type(&headers, &[JSON])?;
    let body = read(body, LARGEST_START, api.arrival).await?;
    let request: BackfillRequest = document(&body)?;
    check_instant("from", Some(request.from))?;
    check_instant("to", request.to)?;
    let at_once = request.at_once.unwrap_or(1);
    if !(1..=10_000).contains(&at_once) {
        return Err(Problem::field("at_once", "is not from 1 to 10000"));
    }
    let backfill = Backfill {
        schedule: name,
        from: request.from,
        to: request.to,
        at_once,
        dry_run: request.dry_run,
        actor: Some(caller.name),
    };
    let slots = Schedules::new(api.database.clone()).backfill(&backfill).await;
    let slots = slots.map_err(|(done, error)| Problem::after_pages(done, "slots were seen to", error))?;
    let slots = slots.map_err(|why| match why {
        NotBackfilled::Unknown(_) => Problem::new(StatusCode::NOT_FOUND, why.to_string()),
        NotBackfilled::Invalid(wrong) => Problem::new(StatusCode::BAD_REQUEST, wrong),
    })?;
    Ok(Json(Backfilled { slots }))
}
