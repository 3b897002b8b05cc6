//! Spans of the engine, made at their end and handed to the exporter's queue; of a trace that is not sampled nothing is.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use opentelemetry::trace::{Event, Link, SpanId, SpanKind, Status};
use opentelemetry::{InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks, SpanProcessor};

use super::catalogue::{Attribute, ERROR_TYPE, PROCESS, REPLICA, REQUEST, RUN, SEND_MAIL, SpanDef};
use super::sampling::sampling;
use super::trace_context::TraceContext;

/// Most events and links of one span.
const MOST: usize = 128;

/// Where the engine's spans go.
static SINK: OnceLock<Arc<dyn SpanProcessor>> = OnceLock::new();

/// Says where; before anything is done.
pub(super) fn send_spans_to(processor: Arc<dyn SpanProcessor>) {
    let _ = SINK.set(processor);
}

/// A span that is under way; dropped before its end it was none.
#[derive(Debug, Default)]
#[must_use = "a span is made at its end"]
pub(crate) struct Spanned(Option<Box<Making>>);

#[derive(Debug)]
struct Making {
    def: &'static SpanDef,
    name: Cow<'static, str>,
    context: TraceContext,
    parent: Option<u64>,
    begin: SystemTime,
    end: Option<SystemTime>,
    attributes: Vec<KeyValue>,
    events: Vec<Event>,
    links: Vec<Link>,
    status: Status,
}

impl Spanned {
    /// Whether any are: what it costs to find out what to say is not paid for nothing.
    pub(crate) fn are_made() -> bool {
        SINK.get().is_some()
    }

    /// A span of these ids that begins now; `part` is what its name has in braces. Nothing, when its trace is not sampled
    /// or spans go nowhere.
    pub(crate) fn begin(def: &'static SpanDef, part: &str, context: TraceContext, parent: Option<u64>) -> Self {
        match context.is_sampled() && SINK.get().is_some() {
            true => Self::making(def, part, context, parent),
            false => Self(None),
        }
    }

    fn making(def: &'static SpanDef, part: &str, context: TraceContext, parent: Option<u64>) -> Self {
        Self(Some(Box::new(Making {
            def,
            name: def.named(part).into(),
            context,
            parent,
            begin: SystemTime::now(),
            end: None,
            attributes: of_this_replica(def.attributes.len()),
            events: Vec::new(),
            links: Vec::new(),
            status: Status::Unset,
        })))
    }

    /// Whether anything is made at all; what costs to find out is asked for only then.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Its ids, where it is made.
    pub(crate) fn context(&self) -> Option<TraceContext> {
        self.0.as_ref().map(|making| making.context)
    }

    /// What its name has in braces was not known before.
    pub(crate) fn name(&mut self, part: &str) {
        if let Some(making) = &mut self.0 {
            making.name = making.def.named(part).into();
        }
    }

    /// It began earlier than it is told.
    pub(crate) fn since(&mut self, begin: SystemTime) {
        if let Some(making) = &mut self.0 {
            making.begin = begin;
        }
    }

    /// It ended earlier than it is told.
    pub(crate) fn until(&mut self, end: SystemTime) {
        if let Some(making) = &mut self.0 {
            making.end = Some(end);
        }
    }

    /// An attribute; the last value of it counts.
    pub(crate) fn set(&mut self, attribute: &'static Attribute, value: impl Into<Value>) {
        let Some(making) = &mut self.0 else { return };
        let has = |known: &&'static Attribute| known.name == attribute.name;
        debug_assert!(
            making.def.attributes.iter().any(has),
            "{} has no attribute {}",
            making.def.name,
            attribute.name
        );
        let known = making
            .attributes
            .iter_mut()
            .find(|known| known.key.as_str() == attribute.name);
        match known {
            Some(known) => known.value = value.into(),
            None => making.attributes.push(KeyValue::new(attribute.name, value)),
        }
    }

    /// Something happened.
    pub(crate) fn event(&mut self, name: &'static str, attributes: Vec<KeyValue>) {
        let Some(making) = &mut self.0 else { return };
        debug_assert!(
            making.def.events.contains(&name),
            "{} has no event {name}",
            making.def.name
        );
        if making.events.len() < MOST {
            making.events.push(Event::new(name, SystemTime::now(), attributes, 0));
        }
    }

    /// It has to do with that span too.
    pub(crate) fn link(&mut self, to: TraceContext, attributes: Vec<KeyValue>) {
        if let Some(making) = &mut self.0
            && making.links.len() < MOST
        {
            making.links.push(Link::new(to.span_context(), attributes, 0));
        }
    }

    /// It went wrong, for a reason from a closed set, in a way that a person should look at.
    pub(crate) fn failed(&mut self, error_type: &'static str) {
        self.set(&ERROR_TYPE, error_type);
        if let Some(making) = &mut self.0 {
            making.status = Status::error("");
        }
    }

    /// It has ended, now if nothing else was said.
    pub(crate) fn end(self) {
        let Some(making) = self.0 else { return };
        if let Some(sink) = SINK.get() {
            sampling().made_span();
            sink.on_end(making.data());
        }
    }
}

impl Making {
    fn data(self) -> SpanData {
        let mut events = SpanEvents::default();
        events.events = self.events;
        let mut links = SpanLinks::default();
        links.links = self.links;
        SpanData {
            span_context: self.context.span_context(),
            parent_span_id: self.parent.map_or(SpanId::INVALID, SpanId::from),
            parent_span_is_remote: self.parent.is_some() && begun_elsewhere(self.def),
            span_kind: kind(self.def.kind),
            name: self.name,
            start_time: self.begin,
            end_time: self.end.unwrap_or_else(SystemTime::now),
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events,
            links,
            status: self.status,
            instrumentation_scope: scope(),
        }
    }
}

/// Whether what it is within came in a header or a row.
fn begun_elsewhere(def: &SpanDef) -> bool {
    [&REQUEST, &RUN, &PROCESS, &SEND_MAIL]
        .iter()
        .any(|own| own.name == def.name)
}

/// What every span says, with room for so many attributes; the id is written once.
fn of_this_replica(room: usize) -> Vec<KeyValue> {
    static REPLICA_ID: OnceLock<StringValue> = OnceLock::new();
    let id = REPLICA_ID.get_or_init(|| Arc::<str>::from(super::instance_id().to_string()).into());
    let mut attributes = Vec::with_capacity(room);
    attributes.push(KeyValue::new(REPLICA.name, id.clone()));
    attributes
}

fn kind(named: &str) -> SpanKind {
    match named {
        "producer" => SpanKind::Producer,
        "consumer" => SpanKind::Consumer,
        "client" => SpanKind::Client,
        "server" => SpanKind::Server,
        _ => SpanKind::Internal,
    }
}

/// What all that the engine tells is told by.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("lockgate")
        .with_version(env!("CARGO_PKG_VERSION"))
        .build()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use crate::telemetry::catalogue::{ITEMS, PLAN, SEND};

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_span_has_the_ids_it_was_given_and_what_was_said_of_it() {
        let context = TraceContext::parse(GIVEN).unwrap();
        let mut span = Spanned::making(&PLAN, "mails", context.with_span(7), Some(context.span_id()));
        let begin = SystemTime::now() - Duration::from_secs(3);
        span.since(begin);
        span.set(&ITEMS, 3i64);
        span.set(&ITEMS, 4i64);
        span.event("trouble", vec![]);
        span.link(context, vec![]);
        span.failed("refused");
        let data = span.0.unwrap().data();
        assert_eq!(
            (data.name.as_ref(), data.span_kind.clone()),
            ("plan mails", SpanKind::Internal)
        );
        assert_eq!(data.span_context.trace_id().to_string(), &GIVEN[3..35]);
        assert_eq!(data.span_context.span_id(), SpanId::from(7u64));
        assert_eq!(data.parent_span_id.to_string(), &GIVEN[36..52]);
        assert_eq!(data.start_time, begin);
        let items: Vec<_> = data
            .attributes
            .iter()
            .filter(|own| own.key.as_str() == ITEMS.name)
            .collect();
        assert_eq!(items, [&KeyValue::new(ITEMS.name, 4i64)]);
        assert_eq!((data.events.len(), data.links.len()), (1, 1));
        assert_eq!(data.status, Status::error(""));
        assert!(!data.parent_span_is_remote);
        let request = Spanned::making(&REQUEST, "", context.with_span(7), Some(context.span_id()));
        assert!(request.0.unwrap().data().parent_span_is_remote);
    }

    #[test]
    fn of_a_trace_that_is_not_sampled_nothing_is_made() {
        let context = TraceContext::parse(&GIVEN.replace("-01", "-00")).unwrap();
        let mut span = Spanned::begin(&SEND, "mails", context, None);
        span.set(&ITEMS, 3i64);
        assert!(!span.is_on());
        span.end();
    }
}
