//! Names of spans and fields, and the trace context that travels with runs and messages.

use std::any::Any;
use std::collections::HashMap;
use std::time::Duration;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanContext, TraceContextExt, TraceFlags, TraceState, TracerProvider};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::lifecycle::{Batch, WorkRun};

/// The span of a run's code.
pub(crate) fn run_span(run: &WorkRun) -> Span {
    let span = tracing::info_span!("run", run = %run.id, workflow = run.workflow);
    continue_trace(&span, run);
    span
}

/// The span of a batch, in the trace of its run.
pub(crate) fn batch_span(batch: &Batch, run: Option<&WorkRun>) -> Span {
    let claim = &batch.claim;
    let span =
        tracing::info_span!("batch", run = %claim.run, batch = claim.seq, token = claim.token, items = batch.ids.len());
    if let Some(run) = run {
        continue_trace(&span, run);
    }
    span
}

/// All spans of a run are in one trace: that of whoever started it, else one named by the run's id, so that replicas
/// that know nothing of each other agree.
fn continue_trace(span: &Span, run: &WorkRun) {
    if let Some(traceparent) = &run.traceparent {
        continue_from(span, traceparent.clone());
        return;
    }
    let (trace, parent) = (run.id.as_u128(), run.id.as_u128() as u64);
    let parent = SpanContext::new(
        trace.into(),
        parent.into(),
        TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    );
    // Without an exporter there is no layer to take it, and nothing is lost.
    let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(parent));
}

fn continue_from(span: &Span, traceparent: String) {
    let carrier = HashMap::from([("traceparent".to_owned(), traceparent)]);
    let context = TraceContextPropagator::new().extract(&carrier);
    // Without an exporter there is no layer to take it, and nothing is lost.
    let _ = span.set_parent(context);
}

/// The span of a request to the HTTP API, in the trace of its client. The route is the pattern, never the path itself.
pub(crate) fn request_span(method: &str, route: &str, traceparent: Option<&str>) -> Span {
    let span = tracing::info_span!("request", method, route, status = tracing::field::Empty);
    if let Some(traceparent) = traceparent {
        continue_from(&span, traceparent.to_owned());
    }
    span
}

/// Whether this is a trace context as W3C writes it, version 00, of a trace that can be.
pub(crate) fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &str, length: usize| {
        part.len() == length
            && part
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let some = |part: &str| part.bytes().any(|byte| byte != b'0');
    matches!(parts[..], ["00", trace, parent, flags]
        if hex(trace, 32) && hex(parent, 16) && hex(flags, 2) && some(trace) && some(parent))
}

/// The id of the trace that the current span is in.
pub(crate) fn current_trace_id() -> Option<String> {
    let context = Span::current().context();
    let current = context.span().span_context().clone();
    current.is_valid().then(|| current.trace_id().to_string())
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

/// Keeps the exporter alive; dropping it sends what is left, within a bounded time.
struct Exporting(opentelemetry_sdk::trace::SdkTracerProvider);

impl Drop for Exporting {
    fn drop(&mut self) {
        // A dead collector must not hold a stopping replica.
        if let Err(error) = self.0.shutdown_with_timeout(Duration::from_secs(2)) {
            eprintln!("traces were not all sent: {error}");
        }
    }
}

/// Logs to stderr, filtered by `RUST_LOG`, and sends traces where there is somewhere to send them.
pub(crate) fn start(endpoint: Option<&str>, default_level: &str) -> Box<dyn Any + Send> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_level));
    let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(logs.with_filter(filter));
    let Some(endpoint) = endpoint else {
        // Set already by the binary: then its choice holds.
        let _ = registry.try_init();
        return Box::new(());
    };
    match exporter(endpoint) {
        Ok(provider) => {
            let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("lockgate"));
            let ours = Targets::new().with_target("lockgate", tracing::Level::INFO);
            let _ = registry.with(spans.with_filter(ours)).try_init();
            Box::new(Exporting(provider))
        }
        Err(error) => {
            let _ = registry.try_init();
            tracing::warn!(%error, "traces are not sent: OTEL_EXPORTER_OTLP_ENDPOINT cannot be used");
            Box::new(())
        }
    }
}

fn exporter(
    endpoint: &str,
) -> Result<opentelemetry_sdk::trace::SdkTracerProvider, opentelemetry_otlp::ExporterBuildError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .with_timeout(Duration::from_secs(5))
        .build()?;
    let name = std::env::var("OTEL_SERVICE_NAME").unwrap_or_else(|_| "lockgate".to_owned());
    let resource = opentelemetry_sdk::Resource::builder().with_service_name(name).build();
    Ok(opentelemetry_sdk::trace::SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build())
}
