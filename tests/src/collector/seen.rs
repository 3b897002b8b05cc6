//! What a collector was sent.

use std::collections::{BTreeMap, BTreeSet};

use hyper::HeaderMap;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint, number_data_point};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as proto;
use prost::Message;

/// Names and values.
pub type Attributes = BTreeMap<String, String>;

/// A span.
#[derive(Debug, Clone)]
pub struct Span {
    /// The process that sent it.
    pub instance: String,
    /// The service that it is.
    pub service: String,
    /// What it was made by.
    pub scope: String,
    /// Its name.
    pub name: String,
    /// Its trace, in hexadecimal.
    pub trace: String,
    /// Its id, in hexadecimal.
    pub id: String,
    /// Its parent's; empty: it has none.
    pub parent: String,
    /// `Internal`, `Server` and so on.
    pub kind: String,
    /// Its attributes.
    pub attributes: Attributes,
    /// Names of its events.
    pub events: Vec<String>,
    /// Trace and span that it is linked to.
    pub links: Vec<(String, String)>,
    /// Whether it failed.
    pub failed: bool,
}

/// A point of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The process that sent it.
    pub instance: String,
    /// Its attributes.
    pub attributes: Attributes,
    /// The value; of a histogram how many values there were.
    pub value: f64,
}

/// A log record.
#[derive(Debug, Clone)]
pub struct Log {
    /// The service that said it.
    pub service: String,
    /// Its name.
    pub event: String,
    /// Its message.
    pub message: String,
    /// Its level.
    pub level: String,
    /// Its trace, in hexadecimal; empty: none.
    pub trace: String,
    /// Its fields.
    pub fields: Attributes,
}

/// A metric as it was last sent by each process.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Its unit.
    pub unit: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Its points, by process.
    pub points: BTreeMap<String, Vec<Point>>,
}

/// All that a collector was sent.
#[derive(Debug, Default)]
pub struct Seen {
    /// Spans in the order in which they came.
    pub spans: Vec<Span>,
    /// Log records likewise.
    pub logs: Vec<Log>,
    /// Metrics by name, as they were last sent.
    pub metrics: BTreeMap<String, Told>,
    /// How often metrics were sent.
    pub metric_exports: usize,
    /// Requests that were compressed.
    pub packed: usize,
    /// Requests that were refused.
    pub refused: usize,
    /// Names and values of all headers that came.
    pub headers: BTreeSet<(String, String)>,
    /// What processes say of themselves.
    pub resources: Vec<Attributes>,
    /// All that came, as it came.
    pub raw: Vec<u8>,
}

impl Seen {
    /// The spans of a trace.
    #[must_use]
    pub fn spans_of(&self, trace: &str) -> Vec<&Span> {
        self.spans.iter().filter(|span| span.trace == trace).collect()
    }

    /// Spans whose name begins so.
    #[must_use]
    pub fn spans_called(&self, name: &str) -> Vec<&Span> {
        self.spans.iter().filter(|span| span.name.starts_with(name)).collect()
    }

    /// The points of a metric, of all processes.
    #[must_use]
    pub fn points(&self, metric: &str) -> Vec<&Point> {
        let told = self.metrics.get(metric);
        told.into_iter()
            .flat_map(|told| told.points.values())
            .flatten()
            .collect()
    }

    /// The sum of a metric's points that have these attributes.
    #[must_use]
    pub fn total(&self, metric: &str, attributes: &[(&str, &str)]) -> f64 {
        let has = |point: &&&Point| {
            attributes
                .iter()
                .all(|(name, value)| point.attributes.get(*name).is_some_and(|own| own == value))
        };
        self.points(metric).iter().filter(has).map(|point| point.value).sum()
    }

    /// Log records of an event.
    #[must_use]
    pub fn events(&self, event: &str) -> Vec<&Log> {
        self.logs.iter().filter(|log| log.event == event).collect()
    }

    pub(super) fn take(&mut self, path: &str, headers: &HeaderMap, body: &[u8]) {
        for (name, value) in headers {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            self.headers.insert((name.to_string(), value));
        }
        self.raw.extend_from_slice(body);
        match path {
            "/v1/traces" => self.take_spans(ExportTraceServiceRequest::decode(body).unwrap()),
            "/v1/metrics" => self.take_metrics(ExportMetricsServiceRequest::decode(body).unwrap()),
            "/v1/logs" => self.take_logs(ExportLogsServiceRequest::decode(body).unwrap()),
            other => panic!("nothing is sent to {other}"),
        }
    }

    fn resource(&mut self, resource: Option<Resource>) -> Attributes {
        let attributes = attributes(&resource.unwrap_or_default().attributes);
        if !self.resources.contains(&attributes) {
            self.resources.push(attributes.clone());
        }
        attributes
    }

    fn take_spans(&mut self, request: ExportTraceServiceRequest) {
        for of_resource in request.resource_spans {
            let resource = self.resource(of_resource.resource);
            for of_scope in of_resource.scope_spans {
                let scope = of_scope.scope.unwrap_or_default().name;
                self.spans
                    .extend(of_scope.spans.into_iter().map(|span| span_of(span, &resource, &scope)));
            }
        }
    }

    fn take_metrics(&mut self, request: ExportMetricsServiceRequest) {
        self.metric_exports += 1;
        for of_resource in request.resource_metrics {
            let instance = get(&self.resource(of_resource.resource), "service.instance.id");
            // A series that is told no more is not there any more.
            for told in self.metrics.values_mut() {
                told.points.remove(&instance);
            }
            for metric in of_resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                let (kind, points) = points_of(&metric, &instance);
                let told = self.metrics.entry(metric.name).or_default();
                told.unit = metric.unit;
                told.kind = kind;
                told.points.insert(instance.clone(), points);
            }
        }
    }

    fn take_logs(&mut self, request: ExportLogsServiceRequest) {
        for of_resource in request.resource_logs {
            let service = get(&self.resource(of_resource.resource), "service.name");
            for record in of_resource.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
                self.logs.push(Log {
                    service: service.clone(),
                    event: record.event_name,
                    message: text(record.body.as_ref()),
                    level: record.severity_text,
                    trace: hex(&record.trace_id),
                    fields: attributes(&record.attributes),
                });
            }
        }
    }
}

fn span_of(span: proto::Span, resource: &Attributes, scope: &str) -> Span {
    Span {
        instance: get(resource, "service.instance.id"),
        service: get(resource, "service.name"),
        scope: scope.to_owned(),
        kind: format!("{:?}", span.kind()),
        attributes: attributes(&span.attributes),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        events: span.events.into_iter().map(|event| event.name).collect(),
        links: span
            .links
            .iter()
            .map(|link| (hex(&link.trace_id), hex(&link.span_id)))
            .collect(),
        failed: span
            .status
            .is_some_and(|status| status.code() == proto::status::StatusCode::Error),
        name: span.name,
    }
}

fn points_of(metric: &Metric, instance: &str) -> (&'static str, Vec<Point>) {
    let point = |own: &[KeyValue], value: f64| Point {
        instance: instance.to_owned(),
        attributes: attributes(own),
        value,
    };
    let numbers = |points: &[NumberDataPoint]| points.iter().map(|own| point(&own.attributes, number(own))).collect();
    match metric.data.as_ref().unwrap() {
        Data::Gauge(gauge) => ("gauge", numbers(&gauge.data_points)),
        Data::Sum(sum) => ("counter", numbers(&sum.data_points)),
        Data::Histogram(histogram) => {
            let points = histogram.data_points.iter();
            (
                "histogram",
                points.map(|own| point(&own.attributes, own.count as f64)).collect(),
            )
        }
        other => panic!("{}: {other:?} is not sent", metric.name),
    }
}

fn number(point: &NumberDataPoint) -> f64 {
    match point.value.unwrap() {
        number_data_point::Value::AsDouble(value) => value,
        number_data_point::Value::AsInt(value) => value as f64,
    }
}

fn attributes(all: &[KeyValue]) -> Attributes {
    all.iter()
        .map(|own| (own.key.clone(), text(own.value.as_ref())))
        .collect()
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BoolValue(yes)) => yes.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

fn get(attributes: &Attributes, name: &str) -> String {
    attributes.get(name).cloned().unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
