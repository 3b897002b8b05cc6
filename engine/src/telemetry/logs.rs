//! Log lines on stderr: one an event, for people or as JSON, with the ids of the trace that it happened in.

use std::env;
use std::fmt;
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt as _;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::fmt::format::{DefaultFields, Format, Full, JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::layer::Context as LayerContext;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, fmt as lines};

use crate::config::LogFormat;

/// Most characters of a field: an error may quote anything.
const LONGEST: usize = 1_000;
/// What the crates that export say of themselves: with every failed export again, which we say once.
const EXPORTERS: &[&str] = &["opentelemetry", "reqwest", "hyper", "h2", "rustls"];

/// A layer of a subscriber.
pub(super) type BoxedLayer<S> = Box<dyn Layer<S> + Send + Sync>;

/// Lines on stderr, and the same to a collector. All through one filter: each that there is, is asked whenever a scope is
/// entered and left, which is at every poll.
pub(super) fn layer<S>(
    format: LogFormat,
    default_level: &str,
    bridge: Option<impl Layer<S> + Send + Sync>,
) -> BoxedLayer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let filter = filter(default_level).and(filter_fn(is_told));
    let bridge = bridge.map(EventsOfOthers);
    match format {
        LogFormat::Human => {
            let colours =
                std::io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            let layer = lines::layer()
                .with_ansi(colours)
                .event_format(Human::new(colours))
                .with_writer(std::io::stderr);
            layer.and_then(bridge).with_filter(filter).boxed()
        }
        LogFormat::Json => {
            AS_JSON.store(true, Ordering::Relaxed);
            let layer = lines::layer().fmt_fields(JsonFields::new()).event_format(Json);
            let layer = layer.with_writer(std::io::stderr);
            layer.and_then(bridge).with_filter(filter).boxed()
        }
    }
}

/// A layer that is told of events, but for those of the crates that export.
struct EventsOfOthers<L>(L);

impl<S: Subscriber, L: Layer<S>> Layer<S> for EventsOfOthers<L> {
    fn on_event(&self, event: &Event<'_>, context: LayerContext<'_, S>) {
        if !is_of_exporters(event.metadata()) {
            self.0.on_event(event, context);
        }
    }
}

static AS_JSON: AtomicBool = AtomicBool::new(false);

/// Says a line that is for whoever looks on while a command runs: as it is, or as an event where all lines are JSON.
pub(crate) fn say(line: &str) {
    if AS_JSON.load(Ordering::Relaxed) {
        tracing::info!(name: "said", line, "what a command says of itself");
    } else {
        eprintln!("{line}");
    }
}

/// What is told of all: `RUST_LOG`, or this level.
pub(super) fn filter(default_level: &str) -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_level))
}

/// Whether a line is for people: not what exporters say of each try, unless somebody asks for it.
fn is_told(metadata: &Metadata<'_>) -> bool {
    !is_of_exporters(metadata) || *metadata.level() <= exporters_level()
}

/// Whether a line comes out of the crates that export: sent to a collector, it would be about its own sending.
pub(super) fn is_of_exporters(metadata: &Metadata<'_>) -> bool {
    EXPORTERS.iter().any(|name| metadata.target().starts_with(name))
}

/// What `OTEL_LOG_LEVEL` says, or `RUST_LOG` of these crates by name.
fn exporters_level() -> LevelFilter {
    static LEVEL: std::sync::OnceLock<LevelFilter> = std::sync::OnceLock::new();
    *LEVEL.get_or_init(|| {
        let named = env::var("RUST_LOG").is_ok_and(|filter| EXPORTERS.iter().any(|name| filter.contains(name)));
        match env::var("OTEL_LOG_LEVEL") {
            Ok(level) => level.parse().unwrap_or(LevelFilter::OFF),
            Err(_) if named => LevelFilter::TRACE,
            Err(_) => LevelFilter::OFF,
        }
    })
}

/// The name of an event; one without is called after its place in the code.
fn event_name(metadata: &Metadata<'_>) -> Option<&'static str> {
    Some(metadata.name()).filter(|name| !name.starts_with("event "))
}

/// The ids of the trace and span that are current, in hexadecimal.
fn current_ids() -> Option<(String, String)> {
    Context::map_current(|context| {
        let span = context.span();
        let span = span.span_context();
        span.is_valid()
            .then(|| (span.trace_id().to_string(), span.span_id().to_string()))
    })
}

/// Lines for people: time, level, name, then as the subscriber writes them, each in one line and with the trace behind it.
struct Human {
    rest: Format<Full, ()>,
    colours: bool,
}

impl Human {
    fn new(colours: bool) -> Self {
        let rest = lines::format().without_time().with_level(false).with_ansi(colours);
        Self { rest, colours }
    }

    fn write_level(&self, writer: &mut Writer<'_>, level: Level) -> fmt::Result {
        let colour = match level {
            Level::ERROR => 31,
            Level::WARN => 33,
            Level::INFO => 32,
            Level::DEBUG => 34,
            Level::TRACE => 35,
        };
        match self.colours {
            true => write!(writer, " \x1b[{colour}m{:>5}\x1b[0m ", level.as_str()),
            false => write!(writer, " {:>5} ", level.as_str()),
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> FormatEvent<S, DefaultFields> for Human {
    fn format_event(
        &self,
        context: &FmtContext<'_, S, DefaultFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        SystemTime.format_time(&mut writer)?;
        self.write_level(&mut writer, *event.metadata().level())?;
        if let Some(name) = event_name(event.metadata()) {
            write!(writer, "{name} ")?;
        }
        let mut rest = String::with_capacity(256);
        self.rest.format_event(context, Writer::new(&mut rest), event)?;
        for part in rest.trim_end().chars() {
            match part {
                '\n' | '\r' => writer.write_char(' ')?,
                other => writer.write_char(other)?,
            }
        }
        if let Some((trace, _)) = current_ids() {
            write!(writer, " trace_id={trace}")?;
        }
        writeln!(writer)
    }
}

/// Lines as JSON: what the event says and, where it does not, what its scopes say.
struct Json;

impl<S: Subscriber + for<'a> LookupSpan<'a>> FormatEvent<S, JsonFields> for Json {
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut line = Map::new();
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        line.insert("ts".to_owned(), time.into());
        line.insert("level".to_owned(), metadata.level().as_str().into());
        if let Some(name) = event_name(metadata) {
            line.insert("event".to_owned(), name.into());
        }
        line.insert("target".to_owned(), metadata.target().into());
        if let Some((trace, span)) = current_ids() {
            line.insert("trace_id".to_owned(), trace.into());
            line.insert("span_id".to_owned(), span.into());
        }
        for scope in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = scope.extensions().get::<FormattedFields<JsonFields>>()
                && let Ok(Value::Object(fields)) = serde_json::from_str(&fields.fields)
            {
                line.extend(fields);
            }
        }
        event.record(&mut Fields(&mut line));
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// Takes the fields of an event.
struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        let name = if field.name() == "message" { "msg" } else { field.name() };
        self.0.insert(name.to_owned(), value.into());
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, brief(&format!("{value:?}"), LONGEST));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, brief(value, LONGEST));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}

/// The beginning of a text that we did not write, without what would break a line.
pub(crate) fn brief(text: &str, longest: usize) -> String {
    let mut kept: String = text
        .chars()
        .take(longest)
        .map(|own| if own.is_control() { ' ' } else { own })
        .collect();
    if text.chars().nth(longest).is_some() {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests;
