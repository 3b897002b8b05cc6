//! What is done to runs that were started, one or many, beyond stopping and pausing them.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Api;
use super::body::{JSON, media_type, read};
use super::gate::{Caller, Role};
use super::problem::Problem;
use super::runs::{
    Acted, LARGEST_START, Started, check_filter, check_text, document, optional_document, run_id, unknown,
};
use crate::inspect::{ActedRuns, NotRepeated, RunAct, RunFilter};
use crate::lifecycle::{LARGEST_PARAMS, NewSignal, Signalled};
use crate::postgres::{Again, BulkAct, Operator, RepeatRun};
use crate::workflow::holds_zero;

/// Runs that one request acts on at most.
const MOST_ACTED: u64 = 10_000;

/// Something that a run is told.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignalRequest {
    /// Its name, for which the run's code waits: up to 100 printable ASCII characters.
    #[schemars(extend("pattern" = "^[ -~]{1,100}$"))]
    name: String,
    /// What is told, any JSON whose numbers are within the range of a double, without a zero character, nested at most 126
    /// deep; `null` when not given. At most 64 KiB.
    #[serde(default)]
    payload: serde_json::Value,
    /// Told once, however often it is asked for under this key.
    #[schemars(length(min = 1, max = 500), extend("pattern" = "^[^\\u0000]+$"))]
    idempotency_key: Option<String>,
    /// For the record: with it the signal is among the transitions of its run.
    #[schemars(length(max = 500), extend("pattern" = "^[^\\u0000]*$"))]
    reason: Option<String>,
}

/// What became of a signal.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SignalAnswer {
    /// The run.
    run_id: Uuid,
    /// `sent`, or `known` when it was told before under this key.
    outcome: &'static str,
}

/// How a run that is over is retried.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RetryRequest {
    /// From this step on, by its path or its name, instead of the one that failed.
    #[schemars(length(min = 1, max = 500), extend("pattern" = "^[^\\u0000]+$"))]
    from: Option<String>,
    /// For the record.
    #[schemars(length(max = 500), extend("pattern" = "^[^\\u0000]*$"))]
    reason: Option<String>,
}

/// How a run like one that is over is started.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ForkRequest<'a> {
    /// Its input, any JSON that fits the workflow; the same when not given.
    #[serde(borrow)]
    #[schemars(with = "Option<serde_json::Value>")]
    params: Option<&'a RawValue>,
    /// From this step on, by its path or its name; from the beginning when not given.
    #[schemars(length(min = 1, max = 500), extend("pattern" = "^[^\\u0000]+$"))]
    from: Option<String>,
    /// Its messages have the ids of that run's: consumers take those that they have for the same.
    #[serde(default)]
    keep_message_ids: bool,
    /// For the record.
    #[schemars(length(max = 500), extend("pattern" = "^[^\\u0000]*$"))]
    reason: Option<String>,
}

/// Something that is done to many runs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = [{"properties": {"act": {"const": "cancel"}}}, {"properties": {"force": {"const": false}}}]))]
pub(super) struct ActionRequest {
    /// What.
    act: RunAct,
    /// To which runs.
    #[serde(default)]
    filter: RunFilter,
    /// It is meant although every run fits.
    #[serde(default)]
    all: bool,
    /// A cancel undoes nothing, and takes runs too that are undoing what they did; nothing else can be forced.
    #[serde(default)]
    force: bool,
    /// For the record.
    #[schemars(length(max = 500), extend("pattern" = "^[^\\u0000]*$"))]
    reason: Option<String>,
    /// Only count them, and name the first.
    #[serde(default)]
    dry_run: bool,
    /// To so many at most.
    #[schemars(range(min = 1, max = 10_000))]
    at_most: Option<u64>,
    /// Only to those behind this run: the `next` of the answer before.
    after: Option<Uuid>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteQuery {
    pub(super) reason: Option<String>,
}

impl Api {
    fn operator(&self, caller: Caller) -> Operator {
        Operator::new(self.database.clone(), Some(caller.name))
    }
}

/// `POST /api/v1/runs/{id}/signals`.
pub(super) async fn signal(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(run): Path<String>,
    body: Body,
) -> Result<Json<SignalAnswer>, Problem> {
    let caller = api.gate.admit(&headers, Role::Operate).await?;
    let run = run_id(&run)?;
    media_type(&headers, &[JSON])?;
    let body = read(body, LARGEST_START, api.arrival).await?;
    let request: SignalRequest = document(&body)?;
    let is_printable = |byte: u8| (b' '..=b'~').contains(&byte);
    if !(1..=100).contains(&request.name.len()) || !request.name.bytes().all(is_printable) {
        return Err(Problem::field("name", "is not 1 to 100 printable ASCII characters"));
    }
    check_text("idempotency_key", request.idempotency_key.as_deref())?;
    if holds_zero(&request.payload) {
        return Err(Problem::field("payload", "contains a zero character"));
    }
    let reason = request.reason.filter(|reason| !reason.is_empty());
    check_text("reason", reason.as_deref())?;
    let signal = NewSignal {
        run,
        name: request.name,
        payload: request.payload,
        idempotency_key: request.idempotency_key,
        actor: None,
        reason,
    };
    let told = api.operator(caller).signal_run(&signal).await;
    let outcome = match told {
        Ok(Signalled::Sent) => "sent",
        Ok(Signalled::Known) => "known",
        Ok(Signalled::Unknown) => return Err(unknown(run)),
        Ok(Signalled::Over(status)) => {
            return Err(Problem::new(StatusCode::CONFLICT, format!("run {run} is {status}")));
        }
        Ok(Signalled::Full) => {
            let full = format!("run {run} has a thousand signals that it has not taken");
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, full).retry_after(1));
        }
        Err(error) if error.code() == Some("54000") => {
            return Err(Problem::field("payload", "is larger than 64 KiB"));
        }
        // Numbers that the tables do not keep.
        Err(error) if error.code().is_some_and(|code| code.starts_with("22")) => {
            return Err(Problem::field("payload", "cannot be kept"));
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Json(SignalAnswer { run_id: run, outcome }))
}

/// `POST /api/v1/runs/{id}/retry`.
pub(super) async fn retry(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(run): Path<String>,
    body: Body,
) -> Result<Response, Problem> {
    let caller = api.gate.admit(&headers, Role::Operate).await?;
    let run = run_id(&run)?;
    let body = read(body, LARGEST_START, api.arrival).await?;
    let request: RetryRequest = optional_document(&headers, &body)?;
    let retry = RepeatRun {
        from: request.from,
        reason: request.reason,
        ..RepeatRun::retry(run)
    };
    repeat(&api.operator(caller), retry).await
}

/// `POST /api/v1/runs/{id}/fork`.
pub(super) async fn fork(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(run): Path<String>,
    body: Body,
) -> Result<Response, Problem> {
    let caller = api.gate.admit(&headers, Role::Operate).await?;
    let run = run_id(&run)?;
    let body = read(body, LARGEST_START, api.arrival).await?;
    let request: ForkRequest<'_> = optional_document(&headers, &body)?;
    let params = request.params.map(|params| params.get().as_bytes().to_vec());
    if params.as_ref().is_some_and(|params| params.len() > LARGEST_PARAMS) {
        return Err(Problem::field("params", "is larger than 1 MiB"));
    }
    let fork = RepeatRun {
        from: request.from,
        reason: request.reason,
        again: Again::Fork {
            params,
            keep_message_ids: request.keep_message_ids,
        },
        ..RepeatRun::fork(run)
    };
    repeat(&api.operator(caller), fork).await
}

async fn repeat(operator: &Operator, mut repeat: RepeatRun) -> Result<Response, Problem> {
    check_text("from", repeat.from.as_deref())?;
    repeat.reason = repeat.reason.filter(|reason| !reason.is_empty());
    check_text("reason", repeat.reason.as_deref())?;
    let run = operator.repeat_run(&repeat).await?.map_err(|why| {
        let text = why.to_string();
        match why {
            NotRepeated::Unknown(run) => unknown(run),
            NotRepeated::Pruned(_) => Problem::new(StatusCode::NOT_FOUND, text),
            NotRepeated::TooLarge => Problem::field("params", "is larger than 1 MiB"),
            // The run is there: what is not found is in the request.
            NotRepeated::NoStep { .. }
            | NotRepeated::Ambiguous { .. }
            | NotRepeated::NotOver(..)
            | NotRepeated::NoCode(_)
            | NotRepeated::Completed(_)
            | NotRepeated::Held(_) => Problem::new(StatusCode::CONFLICT, text),
        }
    })?;
    let place = format!("/api/v1/runs/{run}");
    let started = Started {
        run_id: run,
        outcome: "new".into(),
    };
    Ok((StatusCode::CREATED, [(header::LOCATION, place)], Json(started)).into_response())
}

/// `DELETE /api/v1/runs/{id}`.
pub(super) async fn delete(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(run): Path<String>,
    uri: Uri,
) -> Result<Json<Acted>, Problem> {
    let caller = api.gate.admit(&headers, Role::Operate).await?;
    let run = run_id(&run)?;
    let query: Query<DeleteQuery> =
        Query::try_from_uri(&uri).map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the query takes reason, once"))?;
    let reason = query.0.reason.filter(|reason| !reason.is_empty());
    check_text("reason", reason.as_deref())?;
    let status = api.operator(caller).delete_run(run, reason.as_deref()).await?;
    match status.as_str() {
        "unknown" => Err(unknown(run)),
        "deleted" | "deleting" => Ok(Json(Acted { run_id: run, status })),
        "needed" => {
            let needed = format!(
                "run {run} owes messages, or the run that started it is not over, or the one that goes on in its place, or children of it are still to be cancelled"
            );
            Err(Problem::new(StatusCode::CONFLICT, needed))
        }
        _ => Err(Problem::new(StatusCode::CONFLICT, format!("run {run} is {status}"))),
    }
}

/// `POST /api/v1/runs/actions`.
pub(super) async fn act(State(api): State<Api>, headers: HeaderMap, body: Body) -> Result<Json<ActedRuns>, Problem> {
    let caller = api.gate.admit(&headers, Role::Operate).await?;
    media_type(&headers, &[JSON])?;
    let body = read(body, LARGEST_START, api.arrival).await?;
    let request: ActionRequest = document(&body)?;
    check_filter(&request.filter)?;
    if request.filter.fits_all() && !request.all {
        let all = "the filter fits every run: narrow it, or say `all`";
        return Err(Problem::new(StatusCode::CONFLICT, all));
    }
    if request.force && request.act != RunAct::Cancel {
        return Err(Problem::field("force", "is for a cancel"));
    }
    let reason = request.reason.filter(|reason| !reason.is_empty());
    check_text("reason", reason.as_deref())?;
    let at_most = request.at_most.unwrap_or(MOST_ACTED);
    if !(1..=MOST_ACTED).contains(&at_most) {
        return Err(Problem::field("at_most", "is not from 1 to 10000"));
    }
    let bulk = BulkAct {
        act: request.act,
        filter: request.filter,
        all: request.all,
        force: request.force,
        reason,
        at_most,
        after: request.after,
    };
    let operator = api.operator(caller);
    if request.dry_run {
        return Ok(Json(operator.count_runs(&bulk).await?));
    }
    let done = operator.act_on_runs(&bulk).await;
    Ok(Json(done.map_err(|(done, error)| {
        Problem::after_pages(done.acted, "runs were changed", error)
    })?))
}
