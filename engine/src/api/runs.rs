//! Runs: started, looked at and acted on through the very functions that the command line uses.

use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Datelike, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Api;
use super::body::{JSON, media_type, read};
use super::gate::Role;
use super::problem::Problem;
use super::trace::Incoming;
use crate::inspect::{ProofAnswer, RunDetail, RunFilter, RunList, WhyAnswer, attributes_schema};
use crate::lifecycle::{self, HIGHEST_PRIORITY, LONGEST_QUEUE_NAME, NewRun, misfit_attributes, misnamed};
use crate::postgres::{Inspector, OLD_SNAPSHOT, Operator};
use crate::telemetry::closed::StartedBy;
use crate::telemetry::meters;

/// Inputs are stored with the run and read with every claim of it.
pub(super) const LARGEST_START: usize = 1 << 20;
/// Longest key, name or reason, in characters.
pub(super) const LONGEST: usize = 500;
/// Runs listed at most, and when nothing is said.
const LISTED: (i64, i64) = (1000, 50);

/// A run to be started. The names are those of the SQL function `lockgate.start_run`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StartRequest<'a> {
    /// The workflow.
    #[schemars(length(min = 1, max = 200), extend("pattern" = "^[^\\u0000]+$"))]
    workflow: String,
    /// Its input, any JSON that fits the workflow; `{}` when not given.
    #[serde(borrow)]
    #[schemars(with = "Option<serde_json::Value>")]
    params: Option<&'a RawValue>,
    /// The same key finds the same run of the workflow again, for ever.
    #[schemars(length(min = 1, max = 500), extend("pattern" = "^[^\\u0000]+$"))]
    idempotency_key: Option<String>,
    /// Refused while an unfinished run has it.
    #[schemars(length(min = 1, max = 500), extend("pattern" = "^[^\\u0000]+$"))]
    singleton_key: Option<String>,
    /// By what it is found: at most 16 names of up to 100 characters, with a string of up to 250, a number or a boolean each.
    #[serde(default)]
    #[schemars(schema_with = "attributes_schema")]
    attributes: serde_json::Map<String, serde_json::Value>,
    /// It starts no earlier.
    start_at: Option<DateTime<Utc>>,
    /// Messages per second it may send.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pace_per_s: Option<i32>,
    /// It fails when it is not over so many seconds after its start.
    #[schemars(range(min = 1, max = 3_000_000_000_i64))]
    deadline_s: Option<i64>,
    /// From which queue it is claimed; not given: the one with its workflow's name.
    #[schemars(length(min = 1, max = 200), extend("pattern" = "^[^\\u0000]+$"))]
    queue: Option<String>,
    /// It is claimed before runs of lower priority that came up to 15 seconds a step earlier.
    #[schemars(range(min = 0, max = 20))]
    priority: Option<u8>,
    /// On whose behalf it runs: in a fair queue tenants take turns.
    #[schemars(length(min = 1, max = 200), extend("pattern" = "^[^\\u0000]+$"))]
    tenant: Option<String>,
    /// It counts under this key where its queue has a limit for each key.
    #[schemars(length(min = 1, max = 200), extend("pattern" = "^[^\\u0000]+$"))]
    limit_key: Option<String>,
    /// A run that waits under this key gets the input and time of this one.
    #[schemars(length(min = 1, max = 200), extend("pattern" = "^[^\\u0000]+$"))]
    debounce_key: Option<String>,
}

/// A run that was started, now or before under the same key.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Started {
    /// The run.
    pub(super) run_id: Uuid,
    /// `new`, `found` or `debounced`.
    pub(super) outcome: Cow<'static, str>,
}

/// A run's state after an act.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Acted {
    /// The run.
    pub(super) run_id: Uuid,
    /// Its state now; `stopping` while batches are in flight, `deleted`, or `deleting` while there are rows left.
    pub(super) status: String,
}

/// Why a run or a queue is acted on.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Act {
    /// For the record.
    #[schemars(length(max = 500), extend("pattern" = "^[^\\u0000]*$"))]
    pub(super) reason: Option<String>,
}

/// How and why a run is cancelled.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Cancellation {
    /// For the record.
    #[schemars(length(max = 500), extend("pattern" = "^[^\\u0000]*$"))]
    reason: Option<String>,
    /// What the run did is not undone.
    #[serde(default)]
    force: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    status: Option<String>,
    workflow: Option<String>,
    queue: Option<String>,
    attributes: Option<String>,
    parent: Option<Uuid>,
    schedule: Option<String>,
    tenant: Option<String>,
    since: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
    after: Option<Uuid>,
    limit: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShowQuery {
    #[serde(default)]
    values: bool,
}

impl ListQuery {
    fn filter(self) -> Result<RunFilter, Problem> {
        let attributes = self.attributes.map(|text| serde_json::from_str(&text));
        let attributes = attributes
            .transpose()
            .map_err(|_| Problem::field("attributes", "is not a JSON object such as {\"customer\": 42}"))?;
        let filter = RunFilter {
            workflow: self.workflow,
            status: self.status,
            queue: self.queue,
            attributes: attributes.unwrap_or_default(),
            parent: self.parent,
            schedule: self.schedule,
            tenant: self.tenant,
            since: self.since,
            until: self.until,
        };
        check_filter(&filter)?;
        Ok(filter)
    }
}

/// Refuses a filter that no run can fit.
pub(super) fn check_filter(filter: &RunFilter) -> Result<(), Problem> {
    check_instant("since", filter.since)?;
    check_instant("until", filter.until)?;
    let misfit = filter.misfit();
    misfit.map_or(Ok(()), |(field, wrong)| Err(Problem::field(field, &wrong)))
}

/// An instant that the tables can keep.
pub(super) fn check_instant(field: &'static str, at: Option<DateTime<Utc>>) -> Result<(), Problem> {
    match at {
        Some(at) if !(-1..=10_000).contains(&at.year()) => Err(Problem::field(field, "is beyond the year 9999")),
        _ => Ok(()),
    }
}

/// `POST /api/v1/runs`.
pub(super) async fn start(
    State(api): State<Api>,
    Extension(incoming): Extension<Incoming>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let caller = api.gate.admit(&headers, Role::Operate).await?;
    media_type(&headers, &[JSON])?;
    let body = read(body, LARGEST_START, api.arrival).await?;
    let request: StartRequest<'_> = document(&body)?;
    let start = api.manual_start(request, &incoming)?;
    let operator = Operator::new(api.database.clone(), Some(caller.name));
    match operator.start(&start).await? {
        lifecycle::Started::New(run) => {
            meters().workflow(&start.workflow).runs_started(StartedBy::Api, 1);
            let place = format!("/api/v1/runs/{run}");
            Ok((StatusCode::CREATED, [(header::LOCATION, place)], started(run, "new")).into_response())
        }
        lifecycle::Started::Found(run) => Ok(started(run, "found").into_response()),
        lifecycle::Started::Debounced(run) => Ok(started(run, "debounced").into_response()),
        lifecycle::Started::Held => Err(Problem::new(
            StatusCode::CONFLICT,
            "another unfinished run holds the singleton key",
        )),
        lifecycle::Started::Busy => Err(Problem::unavailable("its key is contended; nothing was started")),
    }
}

/// What says from where and in what order it is claimed.
fn check_flow(request: &StartRequest<'_>) -> Result<(), Problem> {
    if request.priority.is_some_and(|priority| priority > HIGHEST_PRIORITY) {
        return Err(Problem::field("priority", "is not from 0 to 20"));
    }
    let names = [
        ("queue", &request.queue),
        ("tenant", &request.tenant),
        ("limit_key", &request.limit_key),
        ("debounce_key", &request.debounce_key),
    ];
    for (field, name) in names {
        if let Some(why) = name.as_deref().and_then(misnamed) {
            return Err(Problem::field(field, &why));
        }
    }
    Ok(())
}

fn started(run_id: Uuid, outcome: &'static str) -> Json<Started> {
    Json(Started {
        run_id,
        outcome: outcome.into(),
    })
}

impl Api {
    fn manual_start(&self, request: StartRequest<'_>, incoming: &Incoming) -> Result<NewRun, Problem> {
        // It is the name of its queue, too.
        check_length("workflow", Some(&request.workflow), LONGEST_QUEUE_NAME)?;
        check_text("idempotency_key", request.idempotency_key.as_deref())?;
        check_text("singleton_key", request.singleton_key.as_deref())?;
        let params = request.params.map_or("{}", RawValue::get).as_bytes().to_vec();
        if let Some(registry) = &self.registry {
            if !registry.names().contains(&request.workflow) {
                return Err(Problem::field("workflow", "is none that this binary has"));
            }
            let misfit = |error: anyhow::Error| Problem::field("params", &format!("do not fit: {error:#}"));
            registry.check(&request.workflow, &params).map_err(misfit)?;
        }
        check_instant("start_at", request.start_at)?;
        if let Some(wrong) = misfit_attributes(&request.attributes) {
            return Err(Problem::field("attributes", &format!("do not fit: {wrong}")));
        }
        if request.pace_per_s.is_some_and(|pace| pace < 1) {
            return Err(Problem::field("pace_per_s", "is less than 1"));
        }
        let deadline = match request.deadline_s {
            Some(seconds @ 1..=3_000_000_000) => Some(Duration::from_secs(seconds.unsigned_abs())),
            Some(_) => return Err(Problem::field("deadline_s", "is not from 1 to 3000000000")),
            None => None,
        };
        check_flow(&request)?;
        Ok(NewRun {
            params,
            queue: request.queue,
            priority: request.priority.unwrap_or_default(),
            tenant: request.tenant,
            limit_key: request.limit_key,
            debounce_key: request.debounce_key,
            singleton_key: request.singleton_key,
            idempotency_key: request.idempotency_key,
            attributes: (!request.attributes.is_empty()).then(|| request.attributes.into()),
            start_at: request.start_at,
            pace_per_s: request.pace_per_s,
            deadline,
            traceparent: incoming.traceparent.as_deref().map(str::to_owned),
            ..NewRun::new(request.workflow)
        })
    }

    pub(super) async fn inspector(&self, headers: &HeaderMap) -> Result<Inspector, Problem> {
        self.gate.admit(headers, Role::Read).await?;
        Ok(Inspector::new(self.database.clone()))
    }
}

/// `GET /api/v1/runs`.
pub(super) async fn list(State(api): State<Api>, headers: HeaderMap, uri: Uri) -> Result<Json<RunList>, Problem> {
    let inspector = api.inspector(&headers).await?;
    let query: Query<ListQuery> = Query::try_from_uri(&uri).map_err(|_| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "the query takes status, workflow, queue, attributes, parent, schedule, tenant, since, until, after and limit, once \
             each",
        )
    })?;
    let limit = query.limit.unwrap_or(LISTED.1);
    if !(1..=LISTED.0).contains(&limit) {
        return Err(Problem::field("limit", "is not from 1 to 1000"));
    }
    let after = query.after;
    Ok(Json(inspector.list_runs(&query.0.filter()?, after, limit).await?))
}

/// `GET /api/v1/runs/{id}`.
pub(super) async fn show(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(run): Path<String>,
    uri: Uri,
) -> Result<Json<RunDetail>, Problem> {
    let query: Result<Query<ShowQuery>, _> = Query::try_from_uri(&uri);
    // What a run was given and returned may be personal: whoever only looks does not see it.
    let role = match &query {
        Ok(query) if query.values => Role::Operate,
        _ => Role::Read,
    };
    api.gate.admit(&headers, role).await?;
    let run = run_id(&run)?;
    let query = query.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the query takes values, once"))?;
    let inspector = Inspector::new(api.database.clone());
    let found = inspector.show_run(run, query.values).await?;
    found.map(Json).ok_or_else(|| unknown(run))
}

/// `GET /api/v1/runs/{id}/proof`.
pub(super) async fn proof(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(run): Path<String>,
) -> Result<Json<ProofAnswer>, Problem> {
    let inspector = api.inspector(&headers).await?;
    let run = run_id(&run)?;
    let proof = inspector.proof(run).await?.ok_or_else(|| unknown(run))?;
    Ok(Json(ProofAnswer::of(proof)))
}

/// `GET /api/v1/runs/{id}/why`.
pub(super) async fn why(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(run): Path<String>,
) -> Result<Json<WhyAnswer>, Problem> {
    let inspector = api.inspector(&headers).await?;
    let run = run_id(&run)?;
    let facts = inspector.why(run, OLD_SNAPSHOT).await?;
    WhyAnswer::of(run, &facts).map(Json).ok_or_else(|| unknown(run))
}

/// What may be done to a run.
#[derive(Clone, Copy)]
enum Verb {
    Cancel,
    Pause,
    Resume,
}

/// `POST /api/v1/runs/{id}/cancel`.
pub(super) async fn cancel(api: State<Api>, headers: HeaderMap, run: Path<String>, body: Body) -> Answer {
    act(api, headers, run, body, Verb::Cancel).await
}

/// `POST /api/v1/runs/{id}/pause`.
pub(super) async fn pause(api: State<Api>, headers: HeaderMap, run: Path<String>, body: Body) -> Answer {
    act(api, headers, run, body, Verb::Pause).await
}

/// `POST /api/v1/runs/{id}/resume`.
pub(super) async fn resume(api: State<Api>, headers: HeaderMap, run: Path<String>, body: Body) -> Answer {
    act(api, headers, run, body, Verb::Resume).await
}

type Answer = Result<Json<Acted>, Problem>;

async fn act(State(api): State<Api>, headers: HeaderMap, Path(run): Path<String>, body: Body, verb: Verb) -> Answer {
    let caller = api.gate.admit(&headers, Role::Operate).await?;
    let run = run_id(&run)?;
    let body = read(body, LARGEST_START, api.arrival).await?;
    let Cancellation { reason, force } = match verb {
        Verb::Cancel => optional_document(&headers, &body)?,
        Verb::Pause | Verb::Resume => {
            let Act { reason } = optional_document(&headers, &body)?;
            Cancellation { reason, force: false }
        }
    };
    let reason = reason.as_deref().filter(|reason| !reason.is_empty());
    check_text("reason", reason)?;
    let operator = Operator::new(api.database.clone(), Some(caller.name));
    let (status, wanted): (_, &[&str]) = match verb {
        Verb::Cancel if force => (
            operator.force_cancel_run(run, reason).await?,
            &["cancelled", "stopping"],
        ),
        Verb::Cancel => (operator.cancel_run(run, reason).await?, &["cancelled", "stopping"]),
        Verb::Pause => (operator.pause_run(run, reason).await?, &["paused"]),
        Verb::Resume => (
            operator.resume_run(run, reason).await?,
            &["queued", "running", "suspended"],
        ),
    };
    if status == "unknown" {
        return Err(unknown(run));
    }
    if !wanted.contains(&status.as_str()) {
        return Err(Problem::new(StatusCode::CONFLICT, format!("run {run} is {status}")));
    }
    Ok(Json(Acted { run_id: run, status }))
}

pub(super) fn unknown(run: Uuid) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is no run {run}"))
}

pub(super) fn run_id(text: &str) -> Result<Uuid, Problem> {
    Uuid::try_parse(text).map_err(|_| Problem::field("id", "is not a run's id"))
}

/// Text that the tables can keep and index.
pub(super) fn check_text(field: &'static str, text: Option<&str>) -> Result<(), Problem> {
    check_length(field, text, LONGEST)
}

pub(super) fn check_length(field: &'static str, text: Option<&str>, longest: usize) -> Result<(), Problem> {
    match text {
        Some(text) if text.is_empty() || text.chars().count() > longest => Err(Problem::field(
            field,
            &format!("is empty or longer than {longest} characters"),
        )),
        Some(text) if text.contains('\0') => Err(Problem::field(field, "contains a zero character")),
        _ => Ok(()),
    }
}

/// A document, or what an empty body stands for.
pub(super) fn optional_document<'a, T: Deserialize<'a> + Default>(
    headers: &HeaderMap,
    body: &'a [u8],
) -> Result<T, Problem> {
    if body.is_empty() {
        return Ok(T::default());
    }
    media_type(headers, &[JSON])?;
    document(body)
}

/// A document; what is wrong with it is said with the field, where it is known.
pub(super) fn document<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        (path, error.into_inner())
    });
    let read = read.and_then(|document| match reader.end() {
        Ok(()) => Ok(document),
        Err(error) => Err((String::new(), error)),
    });
    read.map_err(|(path, error)| {
        let text = error.to_string();
        let mut problem = Problem::new(StatusCode::BAD_REQUEST, format!("the body cannot be used: {text}"));
        problem.field = field_of(&path, &text).map(|field| Cow::Owned(field.to_owned()));
        problem
    })
}

/// The field that an error is about. One that is missing or unknown has no path; the text names it.
fn field_of<'a>(path: &'a str, text: &'a str) -> Option<&'a str> {
    let named = ["missing field `", "unknown field `", "duplicate field `"];
    let behind = named.iter().find_map(|start| text.strip_prefix(start));
    let named = behind.and_then(|rest| rest.split('`').next());
    named.or(Some(path)).filter(|path| !matches!(*path, "" | "." | "?"))
}
