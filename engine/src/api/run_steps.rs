//! How a run went, in order.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Api;
use super::gate::Role;
use super::problem::Problem;
use super::runs::{run_id, unknown};
use crate::inspect::{TimelineRow, is_cursor};
use crate::postgres::Inspector;

/// Rows of a page, at most and when nothing is said.
const LISTED: (i32, i32) = (1000, 500);

/// A page of how a run went.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Timeline {
    /// What happened, in the order in which it began.
    steps: Vec<TimelineRow>,
    /// There may be more: ask again with this as `after`.
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepsQuery {
    after: Option<String>,
    limit: Option<i32>,
    #[serde(default)]
    values: bool,
}

/// `GET /api/v1/runs/{id}/steps`.
pub(super) async fn list(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(run): Path<String>,
    uri: Uri,
) -> Result<Json<Timeline>, Problem> {
    let query: Result<Query<StepsQuery>, _> = Query::try_from_uri(&uri);
    // What steps returned may be personal: whoever only looks does not see it.
    let role = match &query {
        Ok(query) if query.values => Role::Operate,
        _ => Role::Read,
    };
    api.gate.admit(&headers, role).await?;
    let run = run_id(&run)?;
    let query = query.map_err(|_| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "the query takes after, limit and values, once each",
        )
    })?;
    let limit = query.limit.unwrap_or(LISTED.1);
    if !(1..=LISTED.0).contains(&limit) {
        return Err(Problem::field("limit", "is not from 1 to 1000"));
    }
    if query.after.as_deref().is_some_and(|after| !is_cursor(after)) {
        return Err(Problem::field("after", "is no cursor of a row"));
    }
    let inspector = Inspector::new(api.database.clone());
    let steps = inspector
        .timeline(run, query.after.as_deref(), limit, query.values)
        .await?;
    let steps = steps.ok_or_else(|| unknown(run))?;
    let full = i32::try_from(steps.len()).is_ok_and(|listed| listed == limit);
    let next = steps.last().map(|row| row.cursor.clone()).filter(|_| full);
    Ok(Json(Timeline { steps, next }))
}
