//! Exporters that are watched: what is made and what a collector takes is counted, and that it does not is said once.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter, LogProcessor, SdkLogRecord};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};

use super::client::Trouble;
use super::closed::{Closed as _, Signal};
use super::limits::Limits;

/// What became of the records of one signal.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) signal: Signal,
    pub(super) made: AtomicU64,
    pub(super) taken: AtomicU64,
    pub(super) failed: AtomicU64,
    failing: AtomicBool,
    /// Of this outage.
    failed_since: AtomicU64,
}

impl Tally {
    pub(super) fn new(signal: Signal) -> Arc<Self> {
        Arc::new(Self {
            signal,
            made: AtomicU64::default(),
            taken: AtomicU64::default(),
            failed: AtomicU64::default(),
            failing: AtomicBool::default(),
            failed_since: AtomicU64::default(),
        })
    }

    fn made(&self, records: usize) {
        self.made.fetch_add(records as u64, Ordering::Relaxed);
    }

    fn exported(&self, records: usize, taken: bool, trouble: &Trouble) {
        let records = records as u64;
        let signal = self.signal.text();
        if taken {
            self.taken.fetch_add(records, Ordering::Relaxed);
            if self.failing.swap(false, Ordering::Relaxed) {
                let failed = self.failed_since.swap(0, Ordering::Relaxed);
                tracing::info!(name: "telemetry_taken_again", signal, failed, "the collector takes again what is sent");
            }
            return;
        }
        self.failed.fetch_add(records, Ordering::Relaxed);
        self.failed_since.fetch_add(records, Ordering::Relaxed);
        if !self.failing.swap(true, Ordering::Relaxed) {
            let error_class = trouble.class();
            tracing::warn!(name: "telemetry_not_taken", signal, error_class, "the collector does not take what is sent");
        }
    }

    /// Whether all that was made has been answered for.
    pub(super) fn is_settled(&self) -> bool {
        let ended = self.taken.load(Ordering::Relaxed) + self.failed.load(Ordering::Relaxed);
        ended >= self.made.load(Ordering::Relaxed)
    }
}

/// An exporter that is watched.
pub(super) struct Watched<E> {
    exporter: E,
    tally: Arc<Tally>,
    trouble: Trouble,
}

impl<E> Watched<E> {
    pub(super) fn new(exporter: E, tally: Arc<Tally>, trouble: Trouble) -> Self {
        Self {
            exporter,
            tally,
            trouble,
        }
    }
}

impl<E> fmt::Debug for Watched<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("tally", &self.tally)
            .finish_non_exhaustive()
    }
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let records = batch.len();
        let answer = self.exporter.export(batch).await;
        self.tally.exported(records, answer.is_ok(), &self.trouble);
        answer
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: LogExporter> LogExporter for Watched<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let records = batch.iter().count();
        let answer = self.exporter.export(batch).await;
        self.tally.exported(records, answer.is_ok(), &self.trouble);
        answer
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Watched<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let records = points(metrics);
        self.tally.made(records);
        let answer = self.exporter.export(metrics).await;
        self.tally.exported(records, answer.is_ok(), &self.trouble);
        answer
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

/// How many points an export of metrics has.
fn points(metrics: &ResourceMetrics) -> usize {
    fn of<T>(data: &MetricData<T>) -> usize {
        match data {
            MetricData::Gauge(gauge) => gauge.data_points().count(),
            MetricData::Sum(sum) => sum.data_points().count(),
            MetricData::Histogram(histogram) => histogram.data_points().count(),
            MetricData::ExponentialHistogram(histogram) => histogram.data_points().count(),
        }
    }
    let scopes = metrics.scope_metrics().flat_map(|scope| scope.metrics());
    scopes
        .map(|metric| match metric.data() {
            AggregatedMetrics::F64(data) => of(data),
            AggregatedMetrics::U64(data) => of(data),
            AggregatedMetrics::I64(data) => of(data),
        })
        .sum()
}

/// The queue of spans, which the engine and the provider of users' spans share.
#[derive(Debug, Clone)]
pub(super) struct SpanQueue {
    pub(super) queue: Arc<dyn SpanProcessor>,
    pub(super) limits: Limits,
    pub(super) tally: Arc<Tally>,
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.queue.on_start(span, context);
    }

    fn on_end(&self, mut span: SpanData) {
        self.tally.made(1);
        self.limits.hold(&mut span);
        self.queue.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.queue.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.queue.shutdown_with_timeout(timeout)
    }
}

/// The queue of log records.
#[derive(Debug)]
pub(super) struct LogQueue<P> {
    pub(super) queue: P,
    pub(super) tally: Arc<Tally>,
}

impl<P: LogProcessor> LogProcessor for LogQueue<P> {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        self.tally.made(1);
        self.queue.emit(record, scope);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.queue.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.queue.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.queue.set_resource(resource);
    }
}
