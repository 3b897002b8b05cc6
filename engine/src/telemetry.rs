//! Names of spans and fields, and the trace context that travels with runs and messages.

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use std::collections::HashMap;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::lifecycle::{Batch, WorkRun};

/// The span of a run's code; continues the trace of whoever started it.
pub(crate) fn run_span(run: &WorkRun) -> Span {
    let span = tracing::info_span!("run", run = %run.id, workflow = run.workflow);
    continue_trace(&span, run.traceparent.as_deref());
    span
}

/// The span of a batch.
pub(crate) fn batch_span(batch: &Batch) -> Span {
    let claim = &batch.claim;
    tracing::info_span!("batch", run = %claim.run, batch = claim.seq, token = claim.token, items = batch.ids.len())
}

fn continue_trace(span: &Span, traceparent: Option<&str>) {
    let Some(traceparent) = traceparent else { return };
    let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract(&carrier);
    // Without an exporter there is no layer to take it, and nothing is lost.
    let _ = span.set_parent(context);
}

/// The trace context to send with messages: the current span's, else the one the run was started with.
pub(crate) fn traceparent(started_with: Option<&str>) -> Option<String> {
    let context = Span::current().context();
    let current = context.span().span_context().clone();
    if !current.is_valid() {
        return started_with.map(str::to_owned);
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut carrier);
    carrier.remove("traceparent")
}
