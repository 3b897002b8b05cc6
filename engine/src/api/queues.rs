//! Queues: looked at and set through the very functions that the command line uses.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Api;
use super::body::{JSON, media_type, read};
use super::gate::Role;
use super::problem::Problem;
use super::run_acts::DeleteQuery;
use super::runs::{Act, LARGEST_START, check_text, document, optional_document};
use crate::lifecycle::{Holds, QueueSettings, misnamed};
use crate::postgres::{Inspector, Operator, QueueSummary};

/// What is to be set for a queue; what is not given is no limit. The names are those of the SQL function
/// `lockgate.set_queue`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct QueueRequest {
    /// Most runs at once, in the whole fleet.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    max_running: Option<u32>,
    /// The same for each limit key; at most `max_running`.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    max_per_key: Option<u32>,
    /// Claims a second, in the whole fleet.
    #[schemars(range(min = 0.000_001, max = 1_000_000))]
    rate_per_s: Option<f64>,
    /// Claims that may come at once after a pause, where there is a rate.
    #[schemars(range(min = 1, max = 1_000_000))]
    burst: Option<u32>,
    /// Tenants take turns.
    #[serde(default)]
    fair: bool,
    /// How long a run holds its place: while its code runs, or from its first claim until it is over.
    #[serde(default)]
    holds: Holds,
    /// Seconds that code may run from its claim until it waits or ends.
    #[schemars(range(min = 1, max = 86_400_000))]
    max_attempt_s: Option<u32>,
    /// Why, for the record.
    #[schemars(length(max = 500), extend("pattern" = "^[^\\u0000]*$"))]
    reason: Option<String>,
}

/// A queue after an act.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct QueueActed {
    /// The queue.
    name: String,
    /// `new`, `changed` or `same` when it was set; `paused`, `active` or `removed`.
    state: String,
}

/// Queues.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct QueueList {
    /// Those that are set, or in which runs wait or run.
    queues: Vec<QueueSummary>,
}

type Answer = Result<Json<QueueActed>, Problem>;

/// `GET /api/v1/queues`.
pub(super) async fn list(State(api): State<Api>, headers: HeaderMap) -> Result<Json<QueueList>, Problem> {
    api.gate.admit(&headers, Role::Read).await?;
    let queues = Inspector::new(api.database.clone()).list_queues(None).await?;
    Ok(Json(QueueList { queues }))
}

/// `GET /api/v1/queues/{name}`.
pub(super) async fn show(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<Json<QueueSummary>, Problem> {
    api.gate.admit(&headers, Role::Read).await?;
    named(&name)?;
    let queues = Inspector::new(api.database.clone()).list_queues(Some(&name)).await?;
    queues.into_iter().next().map(Json).ok_or_else(|| unknown(&name))
}

/// `PUT /api/v1/queues/{name}`.
pub(super) async fn set(State(api): State<Api>, headers: HeaderMap, Path(name): Path<String>, body: Body) -> Answer {
    let caller = api.gate.admit(&headers, Role::Operate).await?;
    media_type(&headers, &[JSON])?;
    let body = read(body, LARGEST_START, api.arrival).await?;
    let request: QueueRequest = document(&body)?;
    let reason = request.reason.as_deref().filter(|reason| !reason.is_empty());
    check_text("reason", reason)?;
    named(&name)?;
    let settings = QueueSettings {
        max_running: request.max_running,
        max_per_key: request.max_per_key,
        rate_per_s: request.rate_per_s,
        burst: request.burst,
        fair: request.fair,
        holds: request.holds,
        max_attempt: request
            .max_attempt_s
            .map(|seconds| Duration::from_secs(u64::from(seconds))),
        ..QueueSettings::new(name.clone())
    };
    let status = match settings.contradiction() {
        Some(_) => StatusCode::CONFLICT,
        None => StatusCode::BAD_REQUEST,
    };
    let invalid = |why: String| Problem::new(status, format!("{why}; nothing was changed"));
    settings.check().map_err(invalid)?;
    let operator = Operator::new(api.database.clone(), Some(caller.name));
    let state = operator.set_queue(&settings, reason, false).await?;
    Ok(Json(QueueActed { name, state }))
}

/// What may be done to a queue.
#[derive(Clone, Copy)]
enum Verb {
    Pause,
    Resume,
}

/// `POST /api/v1/queues/{name}/pause`.
pub(super) async fn pause(api: State<Api>, headers: HeaderMap, name: Path<String>, body: Body) -> Answer {
    act(api, headers, name, body, Verb::Pause).await
}

/// `POST /api/v1/queues/{name}/resume`.
pub(super) async fn resume(api: State<Api>, headers: HeaderMap, name: Path<String>, body: Body) -> Answer {
    act(api, headers, name, body, Verb::Resume).await
}

/// `DELETE /api/v1/queues/{name}`.
pub(super) async fn remove(State(api): State<Api>, headers: HeaderMap, Path(name): Path<String>, uri: Uri) -> Answer {
    let caller = api.gate.admit(&headers, Role::Operate).await?;
    named(&name)?;
    let query: Query<DeleteQuery> =
        Query::try_from_uri(&uri).map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the query takes reason, once"))?;
    let reason = query.0.reason.filter(|reason| !reason.is_empty());
    check_text("reason", reason.as_deref())?;
    let operator = Operator::new(api.database.clone(), Some(caller.name));
    let state = operator.remove_queue(&name, reason.as_deref()).await?;
    done(name, state)
}

fn done(name: String, state: String) -> Answer {
    match state.as_str() {
        "unknown" => Err(unknown(&name)),
        _ => Ok(Json(QueueActed { name, state })),
    }
}

async fn act(State(api): State<Api>, headers: HeaderMap, Path(name): Path<String>, body: Body, verb: Verb) -> Answer {
    let caller = api.gate.admit(&headers, Role::Operate).await?;
    named(&name)?;
    let body = read(body, LARGEST_START, api.arrival).await?;
    let Act { reason } = optional_document(&headers, &body)?;
    let reason = reason.as_deref().filter(|reason| !reason.is_empty());
    check_text("reason", reason)?;
    let operator = Operator::new(api.database.clone(), Some(caller.name));
    let state = match verb {
        Verb::Pause => operator.pause_queue(&name, reason).await?,
        Verb::Resume => operator.resume_queue(&name, reason).await?,
    };
    done(name, state)
}

fn named(name: &str) -> Result<(), Problem> {
    misnamed(name).map_or(Ok(()), |why| Err(Problem::field("name", &why)))
}

fn unknown(name: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("nothing is set for queue {name}"))
}
