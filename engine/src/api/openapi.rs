//! The OpenAPI 3.1 document, made of the table of routes and the schemas of the types that are read and written.

use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::body::JSON;
use super::bulk::LineAnswer;
use super::commands::Accepted;
use super::health::Health;
use super::outbox::OutboxRequest;
use super::problem::{PROBLEM_JSON, Problem};
use super::queues::{QueueActed, QueueList, QueueRequest};
use super::routes::{ATTRIBUTES, Answer, ROUTES, Route, WITH_ROLE};
use super::run_acts::{ActionRequest, ForkRequest, RetryRequest, SignalAnswer, SignalRequest};
use super::run_steps::Timeline;
use super::runs::{Act, Acted, Cancellation, LONGEST, StartRequest, Started};
use super::schedules::{BackfillRequest, Backfilled};
use crate::delivery::{EmailCommandRequest, email_schema};
use crate::inspect::{ActedRuns, OutboxChange, ProofAnswer, RunDetail, RunList, WhyAnswer, attributes_schema};
use crate::lifecycle::LONGEST_QUEUE_NAME;
use crate::postgres::QueueSummary;

/// Made once: nobody needs a token to ask for it.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_string());
static EMAIL_DOCUMENT: LazyLock<String> = LazyLock::new(|| email_schema().to_string());

/// `GET /api/v1/openapi.json`.
pub(super) async fn serve() -> impl IntoResponse {
    ([(CONTENT_TYPE, JSON)], DOCUMENT.as_str())
}

/// `GET /api/v1/schemas/email-trigger-command.v1.json`.
pub(super) async fn serve_email_schema() -> impl IntoResponse {
    ([(CONTENT_TYPE, JSON)], EMAIL_DOCUMENT.as_str())
}

/// The document.
fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Lockgate",
            "version": "1",
            "description": "E-mail commands are in camelCase, as their messages are; runs are in snake_case, as the command line and SQL have them.",
            "license": { "name": "Apache-2.0 OR MIT" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.about,
        "responses": responses(route),
    });
    if let Some(role) = route.role {
        operation["security"] = json!([{ "token": [] }]);
        operation["description"] = format!("Needs the role `{}`.", role.name()).into();
    }
    let parameters = parameters(route);
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if !route.takes.is_empty() {
        let content: Map<String, Value> = route
            .takes
            .iter()
            .map(|(media, schema)| ((*media).to_owned(), content(schema)))
            .collect();
        operation["requestBody"] = json!({ "required": route.body_required, "content": content });
    }
    operation
}

fn parameters(route: &Route) -> Vec<Value> {
    let id = route.path.contains("{id}").then(
        || json!({ "name": "id", "in": "path", "required": true, "schema": { "type": "string", "format": "uuid" } }),
    );
    let others = route.parameters.iter().map(|parameter| {
        if parameter.schema == ATTRIBUTES {
            let schema = attributes_schema(&mut SchemaGenerator::default());
            return json!({
                "name": parameter.name, "in": parameter.place, "description": parameter.about, "required": false,
                "content": { JSON: { "schema": schema } },
            });
        }
        let schema: Value = serde_json::from_str(parameter.schema).unwrap_or(Value::Bool(true));
        json!({
            "name": parameter.name, "in": parameter.place, "description": parameter.about, "required": false,
            "schema": schema,
        })
    });
    let name = route.path.contains("{name}").then(|| {
        let queue = route.path.starts_with("/api/v1/queues/");
        let longest = if queue { LONGEST_QUEUE_NAME } else { LONGEST };
        let schema = json!({ "type": "string", "minLength": 1, "maxLength": longest, "pattern": "^[^\\u0000/]+$" });
        json!({ "name": "name", "in": "path", "required": true, "schema": schema })
    });
    id.into_iter().chain(name).chain(others).collect()
}

fn responses(route: &Route) -> Value {
    let mut responses = Map::new();
    for Answer(status, about, media, schema) in route.answers {
        let mut response = json!({ "description": about, "content": { *media: content(schema) } });
        if *status == 201 {
            response["headers"] = json!({ "Location": { "schema": { "type": "string" } } });
        }
        responses.insert(status.to_string(), response);
    }
    let of_role: &[u16] = if route.role.is_some() { &WITH_ROLE } else { &[] };
    for status in of_role.iter().chain(route.problems) {
        let words = axum::http::StatusCode::from_u16(*status)
            .ok()
            .and_then(|status| status.canonical_reason());
        let mut response = json!({
            "description": words.unwrap_or_default(),
            "content": { PROBLEM_JSON: content("Problem") },
        });
        match status {
            429 | 503 => response["headers"] = json!({ "Retry-After": { "schema": { "type": "integer" } } }),
            401 => response["headers"] = json!({ "WWW-Authenticate": { "schema": { "type": "string" } } }),
            _ => {}
        }
        responses.insert(status.to_string(), response);
    }
    responses.into()
}

fn content(schema: &str) -> Value {
    json!({ "schema": { "$ref": format!("#/components/schemas/{schema}") } })
}

fn schemas() -> Map<String, Value> {
    let settings = || {
        SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        })
    };
    let mut read: SchemaGenerator = settings().for_deserialize().into_generator();
    read.subschema_for::<EmailCommandRequest<'_>>();
    read.subschema_for::<StartRequest<'_>>();
    read.subschema_for::<Act>();
    read.subschema_for::<Cancellation>();
    read.subschema_for::<QueueRequest>();
    read.subschema_for::<SignalRequest>();
    read.subschema_for::<RetryRequest>();
    read.subschema_for::<ForkRequest<'_>>();
    read.subschema_for::<ActionRequest>();
    read.subschema_for::<BackfillRequest>();
    read.subschema_for::<OutboxRequest>();
    let mut written: SchemaGenerator = settings().for_serialize().into_generator();
    written.subschema_for::<Accepted>();
    written.subschema_for::<LineAnswer<'_>>();
    written.subschema_for::<Started>();
    written.subschema_for::<Acted>();
    written.subschema_for::<QueueActed>();
    written.subschema_for::<QueueList>();
    written.subschema_for::<QueueSummary>();
    written.subschema_for::<RunList>();
    written.subschema_for::<SignalAnswer>();
    written.subschema_for::<ActedRuns>();
    written.subschema_for::<Timeline>();
    written.subschema_for::<Backfilled>();
    written.subschema_for::<OutboxChange>();
    written.subschema_for::<RunDetail>();
    written.subschema_for::<ProofAnswer>();
    written.subschema_for::<WhyAnswer>();
    written.subschema_for::<Health>();
    written.subschema_for::<Problem>();
    let mut schemas = read.take_definitions(true);
    schemas.extend(written.take_definitions(true));
    let lines = "One JSON document a line: `EmailCommandRequest` in, `LineAnswer` out";
    schemas.insert("Lines".to_owned(), json!({ "type": "string", "description": lines }));
    schemas.insert("Document".to_owned(), json!({ "type": "object" }));
    schemas
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_schema_that_is_named_is_there() {
        let document = document();
        let text = document.to_string();
        let named: Vec<&str> = text
            .split("\"#/components/schemas/")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap())
            .collect();
        assert!(named.len() > ROUTES.len(), "{text}");
        for name in named {
            assert!(
                document["components"]["schemas"][name].is_object(),
                "{name} is not there"
            );
        }
    }

    #[test]
    fn every_route_is_in_the_document_with_its_statuses() {
        let document = document();
        for route in ROUTES {
            let operation = &document["paths"][route.path][route.method];
            let responses = operation["responses"].as_object().unwrap();
            let wanted = route
                .answers
                .iter()
                .map(|answer| answer.0)
                .chain(route.problems.iter().copied());
            for status in wanted {
                assert!(responses.contains_key(&status.to_string()), "{} {status}", route.id);
            }
            assert_eq!(operation["security"].is_array(), route.role.is_some(), "{}", route.id);
            assert_eq!(operation["operationId"], route.id);
        }
    }
}
