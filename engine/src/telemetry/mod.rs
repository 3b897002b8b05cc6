//! What a process tells of itself: traces, metrics and logs, each from the catalogue of names.

#[doc(hidden)]
pub mod catalogue;
mod client;
pub(crate) mod closed;
mod fleet;
mod instruments;
mod labels;
mod limits;
mod logs;
#[doc(hidden)]
pub mod mails;
mod meters;
mod process;
mod providers;
mod run_over;
mod run_trace;
mod sampling;
mod scopes;
pub(crate) mod scrape;
mod series;
mod settings;
mod spanned;
mod timed;
mod trace_context;
mod watched;
mod workflow_meter;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::{Tracer, TracerProvider as _};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::{Identity, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use uuid::Uuid;

use crate::config::{Config, LogFormat};

pub(crate) use fleet::FleetTold;
pub(crate) use instruments::Timing;
pub(crate) use logs::say;
pub(crate) use meters::Meters;
pub(crate) use run_over::RunOver;
pub(crate) use run_trace::{RunTrace, link_after, link_to};
pub(crate) use scopes::{batch_scope, run_scope};
pub(crate) use series::Watching;
pub(crate) use settings::share;
pub(crate) use spanned::Spanned;
pub(crate) use timed::{Timed, Troubled};
pub(crate) use trace_context::{Attachable, TraceContext, within};
pub(crate) use workflow_meter::WorkflowMeter;

/// The instruments of this process. Made when they are first asked for: after [`start`], else they tell nobody.
pub(crate) fn meters() -> &'static Meters {
    static METERS: OnceLock<Meters> = OnceLock::new();
    METERS.get_or_init(|| Meters::on(&opentelemetry::global::meter_with_scope(spanned::scope())))
}

/// The id of this process in all that it tells; its first replica has it too.
pub(crate) fn instance_id() -> Uuid {
    static INSTANCE: OnceLock<Uuid> = OnceLock::new();
    *INSTANCE.get_or_init(Uuid::new_v4)
}

/// What this machine, container or pod is called, as far as the kernel says so.
pub(crate) fn host() -> Option<&'static str> {
    static HOST: OnceLock<Option<String>> = OnceLock::new();
    let read = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = HOST.get_or_init(|| {
        read()
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
    });
    host.as_deref()
}

/// The id of a replica that begins: the first of a process has that of the process.
pub(crate) fn replica_id() -> Uuid {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    match TAKEN.swap(true, Ordering::Relaxed) {
        false => instance_id(),
        true => Uuid::new_v4(),
    }
}

static ROLES: OnceLock<String> = OnceLock::new();

/// Says what the replica of this process does, as its resource tells it; before [`start`].
pub(crate) fn have_roles(roles: &str) {
    let _ = ROLES.set(roles.to_owned());
}

/// What tells of this process. When it is dropped, what is left is exported, within `telemetry.flush` whatever the collector
/// does: not on a thread of the runtime, for it waits.
#[must_use = "it is exported as long as this lives"]
pub struct Telemetry {
    providers: providers::Providers,
    flush: Duration,
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.providers.shut_down(self.flush);
    }
}

/// Begins to tell of this process, as a service of this name: lines on stderr from this level on, unless `RUST_LOG` says
/// otherwise, and to a collector where one is configured. Once, before anything else; who has providers of their own does
/// without it and sets those of `opentelemetry::global` first.
pub fn start(config: &Config, service: &str, default_level: &str) -> Telemetry {
    let telemetry = &config.telemetry;
    let settings = settings::Settings::read(telemetry, &|name| std::env::var(name).ok());
    sampling::decide(settings.share, settings.parent_decides);
    let scraped = telemetry.scrape && config.health.listen.is_some();
    let providers = providers::Providers::make(&settings, service, scraped);
    if let Some(meter) = &providers.meter {
        opentelemetry::global::set_meter_provider(meter.clone());
    }
    if let Some(tracer) = &providers.tracer {
        opentelemetry::global::set_tracer_provider(tracer.clone());
    }
    subscribe(&providers, telemetry.log_format, default_level);
    for ignored in &settings.ignored {
        let (variable, reason) = (&ignored.variable, ignored.reason);
        tracing::warn!(name: "otel_variable_ignored", variable, reason, "a variable has a value that cannot be used");
    }
    for refused in &providers.refused {
        let (signal, reason) = (closed::Closed::text(refused.signal), &refused.reason);
        tracing::warn!(name: "otlp_refused", signal, reason, "a signal cannot be exported as configured");
    }
    if providers.meter.is_some() {
        providers::watch(&providers.tallies);
    }
    Telemetry {
        providers,
        flush: telemetry.flush,
    }
}

/// Lines on stderr and nothing else. A second call changes nothing.
pub(crate) fn lines(format: LogFormat, default_level: &str) {
    let _ = tracing_subscriber::registry()
        .with(logs::layer(format, default_level, None::<Identity>))
        .try_init();
}

fn subscribe(providers: &providers::Providers, format: LogFormat, default_level: &str) {
    let bridge = providers.logger.as_ref().map(OpenTelemetryTracingBridge::new);
    let tracer = providers.tracer.as_ref();
    let spans = tracer.map(|tracer| spans_of_users(tracer.tracer("lockgate.user")));
    // Set already by the binary: then its choice holds.
    let registry = tracing_subscriber::registry().with(logs::layer(format, default_level, bridge));
    let _ = registry.with(spans).try_init();
}

/// Spans that somebody else makes: ours are made at their end, and looking at each of them would cost every poll. In one
/// filter: a scope that the outer one of two lets through is kept and entered, though the inner one refuses it.
fn spans_of_users<S, T>(tracer: T) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    T: Tracer + Send + Sync + 'static,
    T::Span: Send + Sync,
{
    let layer = tracing_opentelemetry::layer().with_tracer(tracer);
    let layer = layer.with_location(false).with_threads(false);
    layer.with_filter(filter_fn(is_of_users).with_max_level_hint(LevelFilter::INFO))
}

fn is_of_users(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let ours = target == "lockgate" || target.starts_with("lockgate::");
    *metadata.level() <= LevelFilter::INFO && !ours && !logs::is_of_exporters(metadata)
}

#[cfg(test)]
mod tests;
