#![allow(clippy::unwrap_used)]
use opentelemetry_sdk::trace::SdkTracerProvider;

use super::scopes::SCOPE;
use super::*;

/// A scope that is kept is looked up whenever a run's code is polled.
#[test]
fn a_scope_that_no_line_needs_is_not_kept_for_the_sake_of_users_spans() {
    let tracer = SdkTracerProvider::builder().build().tracer("users");
    let subscriber = tracing_subscriber::registry().with(spans_of_users(tracer));
    tracing::subscriber::with_default(subscriber, || {
        assert!(tracing::info_span!(target: SCOPE, "run").is_disabled());
        assert!(!tracing::info_span!(target: "shop", "order").is_disabled());
        assert!(tracing::debug_span!(target: "shop", "detail").is_disabled());
    });
}
