//! The trace that a request belongs to.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

use crate::telemetry;

/// The trace context that messages and runs of a request carry on.
#[derive(Debug, Clone, Default)]
pub(super) struct Incoming {
    /// As W3C writes it: our own span's when traces are exported, else the client's.
    pub(super) traceparent: Option<Arc<str>>,
}

impl Incoming {
    /// The trace's id.
    pub(super) fn trace_id(&self) -> Option<&str> {
        self.traceparent.as_deref()?.get(3..35)
    }
}

/// Puts a request into a span of its own, in its client's trace.
pub(super) async fn follow(mut request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get("traceparent")
        .and_then(|given| given.to_str().ok());
    let given = given
        .filter(|given| telemetry::is_traceparent(given))
        .map(str::to_owned);
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("none", MatchedPath::as_str);
    let span = telemetry::request_span(request.method().as_str(), route, given.as_deref());
    let traceparent = span.in_scope(|| telemetry::traceparent(given.as_deref()));
    request.extensions_mut().insert(Incoming {
        traceparent: traceparent.map(Arc::from),
    });
    let response = next.run(request).instrument(span.clone()).await;
    span.record("status", response.status().as_u16());
    response
}
