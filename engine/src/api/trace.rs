//! The trace that a request belongs to, and what is measured of it.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;

use crate::telemetry::catalogue::{HTTP_METHOD, HTTP_ROUTE, HTTP_STATUS, REQUEST, URL_SCHEME};
use crate::telemetry::closed::{Closed, Method};
use crate::telemetry::{Spanned, TraceContext, meters};

/// What is wrong with a request that is answered with 5xx.
const SERVER_ERROR: &str = "server_error";

/// The trace context that messages and runs of a request carry on.
#[derive(Debug, Clone, Default)]
pub(super) struct Incoming {
    /// As W3C writes it: the request's own span, in the trace of its client.
    pub(super) traceparent: Option<Arc<str>>,
}

impl Incoming {
    /// The trace's id.
    pub(super) fn trace_id(&self) -> Option<&str> {
        self.traceparent.as_deref()?.get(3..35)
    }
}

/// Puts a request into a span of its own, in its client's trace. Its route is the pattern, never the path itself.
pub(super) async fn follow(mut request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let given = request.headers().get("traceparent");
    let given = given
        .and_then(|given| given.to_str().ok())
        .and_then(TraceContext::parse);
    // Where no spans are made, nobody is pointed at one.
    let context = match Spanned::are_made() {
        true => Some(given.map_or_else(TraceContext::root, TraceContext::child)),
        false => given,
    };
    let matched = request.extensions().get::<MatchedPath>().cloned();
    // None where the path is none of ours.
    let route = matched.as_ref().map_or("", MatchedPath::as_str);
    let method = Method::of(request.method().as_str());
    let parent = given.map(TraceContext::span_id);
    let mut span = context.map_or_else(Spanned::default, |own| Spanned::begin(&REQUEST, "", own, parent));
    request.extensions_mut().insert(Incoming {
        traceparent: context.map(|own| own.traceparent().into()),
    });
    let active = meters().request_begins(method);
    let response = match context {
        Some(context) => context.around(next.run(request)).await,
        None => next.run(request).await,
    };
    drop(active);
    let status = response.status().as_u16();
    let error = if response.status().is_server_error() {
        SERVER_ERROR
    } else {
        ""
    };
    meters().request(method, route, status, error, begin.elapsed());
    if span.is_on() {
        span.name(format!("{} {route}", method.text()).trim_end());
        span.set(&HTTP_METHOD, method.text());
        if !route.is_empty() {
            span.set(&HTTP_ROUTE, route.to_owned());
        }
        span.set(&HTTP_STATUS, i64::from(status));
        span.set(&URL_SCHEME, "http");
        if !error.is_empty() {
            span.failed(error);
        }
        span.end();
    }
    response
}
