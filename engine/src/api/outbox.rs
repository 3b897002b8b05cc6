//! What is done to commands that are stuck in the outbox.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Api;
use super::body::{JSON, media_type, read};
use super::gate::Role;
use super::problem::Problem;
use super::runs::{LARGEST_START, check_instant, check_length, check_text, document};
use crate::delivery::is_topic_name;
use crate::inspect::{OutboxAct, OutboxBulk, OutboxChange, OutboxFilter};
use crate::postgres::OutboxDesk;

/// Something that is done to many commands of the outbox.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OutboxRequest {
    /// `move`: to the undelivered messages, as dead ones; `discard`: for good.
    act: OutboxAct,
    /// To which.
    #[serde(default)]
    filter: OutboxFilter,
    /// It is meant although all fit.
    #[serde(default)]
    all: bool,
    /// Of those that move their topic, instead of that of their route; wanted where the configuration names that.
    #[schemars(extend("pattern" = "^[A-Za-z0-9._-]{1,249}$", "not" = {"enum": [".", ".."]}))]
    to_topic: Option<String>,
    /// For the record.
    #[schemars(length(min = 1, max = 500), extend("pattern" = "^[^\\u0000]*[^\\u0000\\s][^\\u0000]*$"))]
    reason: String,
    /// Only count them.
    #[serde(default)]
    dry_run: bool,
    /// Only those behind this one: the `next` of the answer before.
    after: Option<i64>,
}

/// `POST /api/v1/outbox/actions`.
pub(super) async fn act(State(api): State<Api>, headers: HeaderMap, body: Body) -> Result<Json<OutboxChange>, Problem> {
    let caller = api.gate.admit(&headers, Role::Operate).await?;
    media_type(&headers, &[JSON])?;
    let body = read(body, LARGEST_START, api.arrival).await?;
    let request: OutboxRequest = document(&body)?;
    check_length("type", request.filter.command_type.as_deref(), 100)?;
    check_length("route", request.filter.route.as_deref(), 250)?;
    if request.to_topic.as_deref().is_some_and(|topic| !is_topic_name(topic)) {
        return Err(Problem::field("to_topic", "is no name that a topic can have"));
    }
    check_text("reason", Some(&request.reason))?;
    check_instant("before", request.filter.before)?;
    if request.reason.trim().is_empty() {
        return Err(Problem::field("reason", "is empty"));
    }
    if request.filter == OutboxFilter::default() && !request.all {
        let all = "the filter fits every command: narrow it, or say `all`";
        return Err(Problem::new(StatusCode::CONFLICT, all));
    }
    let bulk = OutboxBulk {
        act: request.act,
        filter: request.filter,
        to_topic: request.to_topic,
        reason: request.reason,
        dry_run: request.dry_run,
        after: request.after,
    };
    let desk = OutboxDesk::new(api.database.clone(), Some(caller.name));
    match desk.act(&bulk).await {
        Ok(done) => Ok(Json(done)),
        Err((done, error)) if error.code() == Some("22023") && done.changed == 0 => Err(Problem::new(
            StatusCode::CONFLICT,
            "some of these commands go where the configuration says: name their topic; nothing was changed",
        )),
        Err((done, error)) => Err(Problem::after_pages(done.changed, "commands were taken out", error)),
    }
}
