//! Every route there is, once: the router and the OpenAPI document are both made of this table.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{MethodRouter, delete, get, post, put};

use super::body::{JSON, NDJSON};
use super::gate::Role;
use super::{Api, commands, health, openapi, outbox, queues, run_acts, run_steps, runs, schedules};

/// One method of one path.
pub(super) struct Route {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) id: &'static str,
    pub(super) about: &'static str,
    /// None: no token is asked for.
    pub(super) role: Option<Role>,
    /// Media types that the body may have, each with the schema of what it holds.
    pub(super) takes: &'static [(&'static str, &'static str)],
    pub(super) body_required: bool,
    /// Parameters of query and header: where, name, what for, schema.
    pub(super) parameters: &'static [Parameter],
    /// What it answers when all is well: status, what it means, media type, schema.
    pub(super) answers: &'static [Answer],
    /// Statuses of its problems, beside those that every route with a role has.
    pub(super) problems: &'static [u16],
    handler: fn() -> MethodRouter<Api>,
}

/// A parameter of a route.
pub(super) struct Parameter {
    pub(super) place: &'static str,
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// Its JSON schema.
    pub(super) schema: &'static str,
}

/// An answer of a route.
pub(super) struct Answer(
    pub(super) u16,
    pub(super) &'static str,
    pub(super) &'static str,
    pub(super) &'static str,
);

/// Problems of every route with a role: no valid token, the role is missing, too many requests, the database is away.
pub(super) const WITH_ROLE: [u16; 4] = [401, 403, 429, 503];
/// Problems of a body: wrong, late, too large, of another kind.
const OF_BODY: &[u16] = &[400, 408, 413, 415];
/// Problems of what the database is asked for.
const OF_QUERY: &[u16] = &[400, 500];
const OF_RUN: &[u16] = &[400, 404, 500];
const OF_START: &[u16] = &[400, 408, 409, 413, 415, 500];
const OF_QUEUE: &[u16] = &[400, 404, 408, 413, 415, 500];
const OF_BODY_AND_QUERY: &[u16] = &[400, 408, 413, 415, 500];
const OF_DELETE: &[u16] = &[400, 404, 409, 500];
const OF_ACTION: &[u16] = &[400, 408, 409, 413, 415, 500];
const OF_ACT: &[u16] = &[400, 404, 408, 409, 413, 415, 500];

const TEXT: &str = r#"{"type": "string", "minLength": 1, "maxLength": 500, "pattern": "^[^\u0000]+$"}"#;
const KEY: &str = r#"{"type": "string", "pattern": "^[!-~]{1,180}$"}"#;
const REASON: &str = r#"{"type": "string", "maxLength": 500, "pattern": "^[^\u0000]*$"}"#;
const CURSOR: &str = r#"{"type": "string", "pattern": "^-?[0-9]{1,17}[|][^\u0000]{0,3000}$"}"#;
const FLAG: &str = r#"{"type": "boolean", "default": false}"#;
const STATES: &str =
    r#"{"enum": ["queued", "running", "suspended", "paused", "completed", "failed", "cancelled", "quarantined"]}"#;
const RUN: &str = r#"{"type": "string", "format": "uuid"}"#;
const INSTANT: &str = r#"{"type": "string", "format": "date-time"}"#;
/// A schema that is not said here: that of attributes, as JSON.
pub(super) const ATTRIBUTES: &str = "attributes";
const STEPS: &str = r#"{"type": "integer", "minimum": 1, "maximum": 1000, "default": 500}"#;
const LIMIT: &str = r#"{"type": "integer", "minimum": 1, "maximum": 1000, "default": 50}"#;

const fn query(name: &'static str, about: &'static str, schema: &'static str) -> Parameter {
    Parameter {
        place: "query",
        name,
        about,
        schema,
    }
}

/// A route that looks at something.
const fn look(path: &'static str, id: &'static str, about: &'static str, handler: fn() -> MethodRouter<Api>) -> Route {
    Route {
        method: "get",
        path,
        id,
        about,
        role: Some(Role::Read),
        takes: &[],
        body_required: false,
        parameters: &[],
        answers: &[],
        problems: OF_RUN,
        handler,
    }
}

/// A route that acts on a run.
const fn act(path: &'static str, id: &'static str, about: &'static str, handler: fn() -> MethodRouter<Api>) -> Route {
    Route {
        method: "post",
        role: Some(Role::Operate),
        takes: &[(JSON, "Act")],
        answers: &[Answer(200, "The run's state now", JSON, "Acted")],
        problems: OF_ACT,
        ..look(path, id, about, handler)
    }
}

/// A route that acts on a queue.
const fn act_on_queue(
    path: &'static str,
    id: &'static str,
    about: &'static str,
    handler: fn() -> MethodRouter<Api>,
) -> Route {
    Route {
        answers: &[Answer(200, "What became of it", JSON, "QueueActed")],
        problems: OF_QUEUE,
        ..act(path, id, about, handler)
    }
}

/// A route without a token.
const fn open(path: &'static str, id: &'static str, about: &'static str, handler: fn() -> MethodRouter<Api>) -> Route {
    Route {
        role: None,
        answers: &[Answer(200, "The document", JSON, "Document")],
        problems: &[],
        ..look(path, id, about, handler)
    }
}

pub(super) const ROUTES: &[Route] = &[
    Route {
        method: "post",
        role: Some(Role::Send),
        takes: &[(JSON, "EmailCommandRequest"), (NDJSON, "Lines")],
        body_required: true,
        parameters: &[Parameter {
            place: "header",
            name: "Idempotency-Key",
            about: "A repeat under the same key has the same message id; each line without a key of its own has one of this and its number.",
            schema: KEY,
        }],
        answers: &[
            Answer(202, "The command is durable", JSON, "Accepted"),
            Answer(200, "One answer a line, in their order", NDJSON, "Lines"),
        ],
        problems: OF_BODY,
        ..look(
            "/api/v1/email-commands",
            "submitEmailCommand",
            "Hand over one e-mail command, or many as lines",
            || post(commands::submit),
        )
    },
    Route {
        method: "post",
        role: Some(Role::Operate),
        takes: &[(JSON, "StartRequest")],
        body_required: true,
        answers: &[
            Answer(201, "A new run", JSON, "Started"),
            Answer(
                200,
                "The run that was started under this idempotency key before, or that waits under this debounce key",
                JSON,
                "Started",
            ),
        ],
        problems: OF_START,
        ..look("/api/v1/runs", "startRun", "Start a run", || post(runs::start))
    },
    Route {
        parameters: &[
            query("status", "Only of this state", STATES),
            query("workflow", "Only of this workflow", TEXT),
            query(
                "queue",
                "Only from this queue; a run without one is in that of its workflow's name",
                TEXT,
            ),
            query(
                "attributes",
                "Only with these attributes: a JSON object such as `{\"customer\": 42}`",
                ATTRIBUTES,
            ),
            query("parent", "Only those that this run's code started", RUN),
            query("schedule", "Only of this schedule", TEXT),
            query("tenant", "Only on behalf of this tenant", TEXT),
            query("since", "Only those started at this instant or later", INSTANT),
            query("until", "Only those started before this instant", INSTANT),
            query("after", "Those behind this run: the `next` of the answer before", RUN),
            query("limit", "At most so many", LIMIT),
        ],
        answers: &[Answer(200, "The runs", JSON, "RunList")],
        problems: OF_QUERY,
        ..look("/api/v1/runs", "listRuns", "Runs, newest first", || get(runs::list))
    },
    Route {
        parameters: &[query(
            "values",
            "With what it was given (`params`) and returned (`output`); needs the role `operate`",
            FLAG,
        )],
        answers: &[Answer(200, "The run", JSON, "RunDetail")],
        ..look(
            "/api/v1/runs/{id}",
            "showRun",
            "One run: its steps, batches by state, history",
            || get(runs::show),
        )
    },
    Route {
        answers: &[Answer(200, "The proof", JSON, "ProofAnswer")],
        ..look(
            "/api/v1/runs/{id}/proof",
            "proveRun",
            "Prove what became of every item",
            || get(runs::proof),
        )
    },
    Route {
        answers: &[Answer(200, "The causes", JSON, "WhyAnswer")],
        ..look(
            "/api/v1/runs/{id}/why",
            "explainRun",
            "Say why a run is not moving",
            || get(runs::why),
        )
    },
    Route {
        takes: &[(JSON, "Cancellation")],
        ..act("/api/v1/runs/{id}/cancel", "cancelRun", "Cancel a run", || {
            post(runs::cancel)
        })
    },
    act("/api/v1/runs/{id}/pause", "pauseRun", "Pause a run", || {
        post(runs::pause)
    }),
    act(
        "/api/v1/runs/{id}/resume",
        "resumeRun",
        "Resume a paused or quarantined run",
        || post(runs::resume),
    ),
    Route {
        answers: &[Answer(200, "The queues", JSON, "QueueList")],
        problems: &[500],
        ..look(
            "/api/v1/queues",
            "listQueues",
            "Queues: what waits and runs, and what is set",
            || get(queues::list),
        )
    },
    Route {
        answers: &[Answer(200, "The queue", JSON, "QueueSummary")],
        ..look("/api/v1/queues/{name}", "showQueue", "One queue", || get(queues::show))
    },
    Route {
        method: "put",
        takes: &[(JSON, "QueueRequest")],
        body_required: true,
        problems: OF_ACTION,
        ..act_on_queue(
            "/api/v1/queues/{name}",
            "setQueue",
            "Make a queue's settings what is given",
            || put(queues::set),
        )
    },
    Route {
        method: "delete",
        takes: &[],
        parameters: &[query("reason", "Why, for the record", REASON)],
        problems: OF_RUN,
        ..act_on_queue(
            "/api/v1/queues/{name}",
            "removeQueue",
            "Take a queue's settings away",
            || delete(queues::remove),
        )
    },
    Route {
        problems: OF_BODY_AND_QUERY,
        ..act_on_queue(
            "/api/v1/queues/{name}/pause",
            "pauseQueue",
            "Claim nothing of a queue until it is resumed",
            || post(queues::pause),
        )
    },
    act_on_queue(
        "/api/v1/queues/{name}/resume",
        "resumeQueue",
        "Claim a queue's runs again",
        || post(queues::resume),
    ),
    Route {
        takes: &[(JSON, "SignalRequest")],
        body_required: true,
        answers: &[Answer(200, "It is told", JSON, "SignalAnswer")],
        ..act(
            "/api/v1/runs/{id}/signals",
            "signalRun",
            "Tell a run something that its code waits for",
            || post(run_acts::signal),
        )
    },
    Route {
        takes: &[(JSON, "RetryRequest")],
        answers: &[Answer(201, "The new run", JSON, "Started")],
        ..act(
            "/api/v1/runs/{id}/retry",
            "retryRun",
            "Do again a run that is over, from the step that failed or from a named one: a new run with the same message ids",
            || post(run_acts::retry),
        )
    },
    Route {
        takes: &[(JSON, "ForkRequest")],
        answers: &[Answer(201, "The new run", JSON, "Started")],
        ..act(
            "/api/v1/runs/{id}/fork",
            "forkRun",
            "Start a run like one that is over, with another input if one is given",
            || post(run_acts::fork),
        )
    },
    Route {
        method: "delete",
        takes: &[],
        parameters: &[query("reason", "Why, for the record", REASON)],
        problems: OF_DELETE,
        ..act(
            "/api/v1/runs/{id}",
            "deleteRun",
            "Delete a run that is over, before retention does",
            || delete(run_acts::delete),
        )
    },
    Route {
        takes: &[(JSON, "ActionRequest")],
        body_required: true,
        answers: &[Answer(200, "What was done, or would be", JSON, "ActedRuns")],
        problems: OF_ACTION,
        ..act(
            "/api/v1/runs/actions",
            "actOnRuns",
            "Cancel, pause, resume, retry or delete all runs that fit",
            || post(run_acts::act),
        )
    },
    Route {
        takes: &[(JSON, "OutboxRequest")],
        body_required: true,
        answers: &[Answer(200, "What was done, or would be", JSON, "OutboxChange")],
        problems: OF_ACTION,
        ..act(
            "/api/v1/outbox/actions",
            "actOnOutbox",
            "Move commands that are stuck in the outbox to the undelivered messages, or discard them",
            || post(outbox::act),
        )
    },
    Route {
        parameters: &[
            query(
                "after",
                "What comes behind this cursor: the `next` of the answer before",
                CURSOR,
            ),
            query("limit", "At most so many", STEPS),
            query(
                "values",
                "With what steps returned and signals told; needs the role `operate`",
                FLAG,
            ),
        ],
        answers: &[Answer(200, "How it went", JSON, "Timeline")],
        ..look(
            "/api/v1/runs/{id}/steps",
            "listSteps",
            "How a run went: steps, claims, changes and signals in order",
            || get(run_steps::list),
        )
    },
    Route {
        takes: &[(JSON, "BackfillRequest")],
        body_required: true,
        answers: &[Answer(200, "What became of the slots", JSON, "Backfilled")],
        problems: &[400, 404, 408, 413, 415, 500],
        ..act(
            "/api/v1/schedules/{name}/backfill",
            "backfillSchedule",
            "Start runs for past slots of a schedule that have none",
            || post(schedules::backfill),
        )
    },
    open("/api/v1/openapi.json", "openapi", "This document", || {
        get(openapi::serve)
    }),
    open(
        "/api/v1/schemas/email-trigger-command.v1.json",
        "emailSchema",
        "JSON schema of the value of an e-mail command's message",
        || get(openapi::serve_email_schema),
    ),
    Route {
        answers: &[Answer(200, "It lives", JSON, "Health")],
        problems: &[503],
        ..open("/healthz", "healthz", "Whether this process lives", || {
            get(health::live)
        })
    },
    Route {
        answers: &[Answer(200, "It takes requests", JSON, "Health")],
        problems: &[503],
        ..open("/readyz", "readyz", "Whether requests should be sent here", || {
            get(health::ready)
        })
    },
];

/// The routes; whatever else is asked for is a problem too.
pub(super) fn router() -> Router<Api> {
    let add = |router: Router<Api>, route: &Route| router.route(route.path, (route.handler)());
    ROUTES
        .iter()
        .fold(Router::new(), add)
        .fallback(async || super::problem::Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            super::problem::Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
        })
}
