//! `POST /api/v1/email-commands`: one command, or many as lines.

use std::borrow::Cow;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::body::{JSON, NDJSON, media_type, read};
use super::gate::Role;
use super::problem::Problem;
use super::trace::Incoming;
use super::{Api, bulk};
use crate::delivery::{EmailCommandRequest, HandedOver, InvalidCommand, InvalidRequest, LARGEST_EMAIL, ReadyCommand};

/// Largest request: the command, written with spaces.
pub(super) const LARGEST_REQUEST: usize = 2 * LARGEST_EMAIL;

/// Longest of those, so that with the number of a line it is a key too.
const LONGEST_KEY: usize = 180;

/// Header under which a repeat of the request is the same.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A command that is durable.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Accepted {
    /// Id of its message, the same in every copy ever sent.
    message_id: Uuid,
    /// Where it is: acknowledged by the broker, stored and sent later, or stored as one that the brokers do not take: a
    /// person must look.
    outcome: Durable,
}

/// How a command is durable.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Durable {
    Delivered,
    Stored,
    Refused,
}

/// The handler.
pub(super) async fn submit(
    State(api): State<Api>,
    Extension(incoming): Extension<Incoming>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    api.gate.admit(&headers, Role::Send).await?;
    let key = idempotency_key(&headers)?;
    if media_type(&headers, &[JSON, NDJSON])? == NDJSON {
        let key = key.map(str::to_owned);
        return bulk::answer(api, bulk::Bulk { incoming, key }, body);
    }
    let json = read(body, LARGEST_REQUEST, api.arrival).await?;
    let ready = api.make_ready(&json, key, &incoming)?;
    let message_id = ready.message_id;
    let outcome = match api.hand_over(vec![ready]).await {
        Some(outcomes) => outcomes.first().copied().unwrap_or(HandedOver::NotAccepted),
        None => return Err(Problem::unavailable(LATE)),
    };
    let outcome = match outcome {
        HandedOver::Delivered { .. } => Durable::Delivered,
        HandedOver::Stored => Durable::Stored,
        HandedOver::Refused => Durable::Refused,
        HandedOver::NotAccepted => return Err(Problem::unavailable(NOT_TAKEN)),
        HandedOver::Unsettled => return Err(Problem::unavailable(LATE)),
    };
    Ok((StatusCode::ACCEPTED, Json(Accepted { message_id, outcome })).into_response())
}

/// Nothing became of it.
pub(super) const NOT_TAKEN: &str = "the command was not taken; hand it over again";
/// Something may still become of it.
pub(super) const LATE: &str =
    "what became of the command is not known yet; hand it over again under the same idempotency key";

impl Api {
    /// Checks a request and makes its message; `key` is for a request without an idempotency key of its own.
    pub(super) fn make_ready(
        &self,
        json: &[u8],
        key: Option<&str>,
        incoming: &Incoming,
    ) -> Result<ReadyCommand, InvalidRequest> {
        let mut request = EmailCommandRequest::read(json)?;
        request.idempotency_key = request.idempotency_key.or(key.map(Cow::Borrowed));
        let mut direct = request.into_direct(incoming.trace_id())?;
        direct.traceparent = incoming.traceparent.as_deref().map(str::to_owned);
        direct.into_ready(&self.topics, &self.key_hash).map_err(|error| {
            let invalid = error.downcast::<InvalidCommand>();
            invalid.map(InvalidRequest::from).unwrap_or_else(|error| {
                tracing::error!(name: "request_command_refused", %error, "a command of the HTTP API cannot be sent");
                InvalidRequest {
                    field: None,
                    problem: "the command cannot be sent by this configuration".into(),
                }
            })
        })
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = given.next() else {
        return Ok(None);
    };
    let is_key = (1..=LONGEST_KEY).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic);
    match value.to_str() {
        Ok(key) if is_key && given.next().is_none() => Ok(Some(key)),
        _ => Err(Problem::field(
            "Idempotency-Key",
            "is not one of 1 to 180 visible characters",
        )),
    }
}
