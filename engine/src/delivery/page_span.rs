//! The span of a page that is sent, with links to where its messages come from.

use crate::telemetry::catalogue::{
    MESSAGE_COUNT, MESSAGING_OPERATION, MESSAGING_SYSTEM, MESSAGING_TYPE, SpanDef, TOPIC,
};
use crate::telemetry::{Spanned, TraceContext};

/// Most contexts that a page is linked to.
const LINKS: usize = 32;

/// Begins a trace for a page of messages, if it is recorded. What their headers say is looked at only then.
pub(super) fn begin<'a>(
    def: &'static SpanDef,
    topic: &str,
    traceparents: impl ExactSizeIterator<Item = Option<&'a [u8]>>,
) -> Spanned {
    let mut span = Spanned::begin(def, topic, TraceContext::root(), None);
    if !span.is_on() {
        return span;
    }
    span.set(&MESSAGING_SYSTEM, "kafka");
    // A span is called by its operation and its topic.
    let operation = def.name.split_once(' ').map_or(def.name, |(operation, _)| operation);
    span.set(&MESSAGING_OPERATION, operation);
    span.set(&MESSAGING_TYPE, "send");
    span.set(&TOPIC, topic.to_owned());
    span.set(&MESSAGE_COUNT, traceparents.len() as i64);
    let mut seen: Vec<&[u8]> = Vec::new();
    for traceparent in traceparents.flatten() {
        if seen.len() == LINKS {
            break;
        }
        if !seen.contains(&traceparent) {
            seen.push(traceparent);
            if let Some(context) = str::from_utf8(traceparent).ok().and_then(TraceContext::parse) {
                span.link(context, Vec::new());
            }
        }
    }
    span
}
