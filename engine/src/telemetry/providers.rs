//! Providers, processors and exporters of the three signals, and their end within a bounded time.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    LogExporter, MetricExporter, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{BatchLogProcessor, SdkLoggerProvider};
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracerProvider, SpanProcessor as _};
use prometheus::Registry;

use super::client::Client;
use super::closed::{Closed as _, Exported, Signal};
use super::limits::Limits;
use super::sampling::UserSampler;
use super::settings::{Settings, Target};
use super::watched::{LogQueue, SpanQueue, Tally, Watched};
use super::{ROLES, catalogue, host, instance_id, scrape, spanned};

/// A signal that is not exported although somebody wants it to be, and why.
pub(super) struct Refused {
    pub(super) signal: Signal,
    pub(super) reason: String,
}

/// What there is of the three signals.
#[derive(Default)]
pub(super) struct Providers {
    pub(super) tracer: Option<SdkTracerProvider>,
    pub(super) logger: Option<SdkLoggerProvider>,
    pub(super) meter: Option<SdkMeterProvider>,
    pub(super) tallies: Vec<Arc<Tally>>,
    pub(super) refused: Vec<Refused>,
}

impl Providers {
    /// Makes what is asked for; what cannot be is left out and said.
    pub(super) fn make(settings: &Settings, service: &str, scraped: bool) -> Self {
        let resource = resource(service);
        let mut made = Self::default();
        if let Some(target) = &settings.traces {
            let tracer = tracer(target, settings.limits, &resource);
            made.tracer = made.keep(Signal::Traces, tracer);
        }
        if let Some(target) = &settings.logs {
            let logger = logger(target, &resource);
            made.logger = made.keep(Signal::Logs, logger);
        }
        made.make_meter(settings, resource, scraped);
        made
    }

    fn keep<T>(&mut self, signal: Signal, made: anyhow::Result<(T, Arc<Tally>)>) -> Option<T> {
        match made {
            Ok((made, tally)) => {
                self.tallies.push(tally);
                Some(made)
            }
            Err(error) => {
                let reason = format!("{error:#}");
                self.refused.push(Refused { signal, reason });
                None
            }
        }
    }

    fn make_meter(&mut self, settings: &Settings, resource: Resource, scraped: bool) {
        let exporter = settings.metrics.as_ref().map(metric_exporter);
        let exporter = exporter.and_then(|exporter| self.keep(Signal::Metrics, exporter));
        if exporter.is_none() && !scraped {
            return;
        }
        let mut builder = SdkMeterProvider::builder().with_resource(resource);
        if let Some(exporter) = exporter {
            builder = builder.with_reader(
                PeriodicReader::builder(exporter)
                    .with_interval(settings.interval)
                    .build(),
            );
        }
        if scraped {
            let registry = Registry::new();
            if let Ok(reader) = opentelemetry_prometheus::exporter()
                .with_registry(registry.clone())
                .build()
            {
                builder = builder.with_reader(reader);
                scrape::tell(registry);
            }
        }
        self.meter = Some(builder.build());
    }
}

/// What all records say of the process.
fn resource(service: &str) -> Resource {
    let named = std::env::var("OTEL_SERVICE_NAME").is_ok_and(|name| !name.is_empty());
    let host = host().filter(|_| !is_said("host.name"));
    let host = host.map(|host| KeyValue::new("host.name", host));
    let roles = ROLES.get().map(|roles| KeyValue::new("lockgate.roles", roles.as_str()));
    let known = [
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", instance_id().to_string()),
    ];
    let builder = Resource::builder().with_attributes(known.into_iter().chain(host).chain(roles));
    match named || is_said("service.name") {
        true => builder.build(),
        false => builder.with_service_name(service.to_owned()).build(),
    }
}

/// Whether the environment says this of the process.
fn is_said(attribute: &str) -> bool {
    std::env::var("OTEL_RESOURCE_ATTRIBUTES").is_ok_and(|attributes| {
        let mut names = attributes.split(',').filter_map(|pair| pair.split_once('='));
        names.any(|(name, _)| name.trim() == attribute)
    })
}

fn tracer(target: &Target, limits: Limits, resource: &Resource) -> anyhow::Result<(SdkTracerProvider, Arc<Tally>)> {
    let (client, trouble) = Client::new(target)?;
    let exporter = SpanExporter::builder().with_http().with_http_client(client);
    let exporter = exporter
        .with_endpoint(&target.url)
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(target.timeout)
        .build()?;
    let tally = Tally::new(Signal::Traces);
    let mut queue = BatchSpanProcessor::builder(Watched::new(exporter, tally.clone(), trouble)).build();
    // Behind a pointer it cannot be told any more.
    queue.set_resource(resource);
    let queue = SpanQueue {
        queue: Arc::new(queue),
        limits,
        tally: tally.clone(),
    };
    spanned::send_spans_to(Arc::new(queue.clone()));
    let provider = SdkTracerProvider::builder()
        .with_span_processor(queue)
        .with_sampler(UserSampler);
    Ok((provider.with_resource(resource.clone()).build(), tally))
}

fn logger(target: &Target, resource: &Resource) -> anyhow::Result<(SdkLoggerProvider, Arc<Tally>)> {
    let (client, trouble) = Client::new(target)?;
    let exporter = LogExporter::builder().with_http().with_http_client(client);
    let exporter = exporter
        .with_endpoint(&target.url)
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(target.timeout)
        .build()?;
    let tally = Tally::new(Signal::Logs);
    let queue = LogQueue {
        queue: BatchLogProcessor::builder(Watched::new(exporter, tally.clone(), trouble)).build(),
        tally: tally.clone(),
    };
    let provider = SdkLoggerProvider::builder().with_log_processor(queue);
    Ok((provider.with_resource(resource.clone()).build(), tally))
}

fn metric_exporter(target: &Target) -> anyhow::Result<(Watched<MetricExporter>, Arc<Tally>)> {
    let (client, trouble) = Client::new(target)?;
    let exporter = MetricExporter::builder().with_http().with_http_client(client);
    let exporter = exporter
        .with_endpoint(&target.url)
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(target.timeout)
        .build()?;
    let tally = Tally::new(Signal::Metrics);
    Ok((Watched::new(exporter, tally.clone(), trouble), tally))
}

/// Counts of what is exported, for as long as the process is.
pub(super) fn watch(tallies: &[Arc<Tally>]) {
    static WATCHING: OnceLock<Vec<super::Watching>> = OnceLock::new();
    WATCHING.get_or_init(|| {
        let meters = super::meters();
        let mut watching = super::process::watch(meters);
        for tally in tallies {
            let signal = tally.signal.text();
            let (made, taken, failed) = (tally.clone(), tally.clone(), tally.clone());
            let load =
                |count: &std::sync::atomic::AtomicU64| Some(count.load(std::sync::atomic::Ordering::Relaxed) as f64);
            watching.push(meters.watch(&catalogue::TELEMETRY_MADE, &[signal], move || load(&made.made)));
            let exported = &catalogue::TELEMETRY_EXPORTED;
            watching.push(meters.watch(exported, &[signal, Exported::Taken.text()], move || load(&taken.taken)));
            watching.push(meters.watch(exported, &[signal, Exported::Failed.text()], move || {
                load(&failed.failed)
            }));
        }
        watching
    });
}

impl Providers {
    /// Exports what is left, within this time whatever the collector does. On plain threads: these calls wait. Whoever has
    /// not come to an end by then is left behind, and ends with the process.
    pub(super) fn shut_down(&mut self, within: Duration) {
        let (tell, told) = channel::<()>();
        let mut waited_for = 0;
        let mut end = |shut_down: Box<dyn FnOnce() + Send>| {
            let tell = tell.clone();
            waited_for += 1;
            thread::spawn(move || {
                shut_down();
                let _ = tell.send(());
            });
        };
        if let Some(tracer) = self.tracer.take() {
            end(Box::new(move || drop(tracer.shutdown_with_timeout(within))));
        }
        if let Some(logger) = self.logger.take() {
            end(Box::new(move || drop(logger.shutdown_with_timeout(within))));
        }
        if let Some(meter) = self.meter.take() {
            end(Box::new(move || drop(meter.shutdown_with_timeout(within))));
        }
        let until = Instant::now() + within;
        for _ in 0..waited_for {
            let left = until.saturating_duration_since(Instant::now());
            if told.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
        self.tell_left_behind();
    }

    fn tell_left_behind(&self) {
        let behind = self.tallies.iter().filter(|tally| !tally.is_settled());
        let signals: Vec<&str> = behind.map(|tally| tally.signal.text()).collect();
        if !signals.is_empty() {
            let signals = signals.join(", ");
            tracing::warn!(name: "telemetry_left_behind", signals, "not all was exported when the time of the stop was over");
        }
    }
}
