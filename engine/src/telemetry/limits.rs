//! What a span may hold. The SDK holds users' spans to counts alone and ours to nothing, so all of them are cut here, on
//! their way to the queue.

use opentelemetry::{Array, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::SpanData;

/// As many as the specification has it when nobody says.
const COUNT: usize = 128;

/// Limits of spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Characters of a text.
    pub(super) value_length: Option<usize>,
    pub(super) attributes: usize,
    pub(super) events: usize,
    pub(super) links: usize,
    pub(super) event_attributes: usize,
    pub(super) link_attributes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            value_length: None,
            attributes: COUNT,
            events: COUNT,
            links: COUNT,
            event_attributes: COUNT,
            link_attributes: COUNT,
        }
    }
}

impl Limits {
    /// Cuts what is more, and says how much that was.
    pub(super) fn hold(&self, span: &mut SpanData) {
        span.dropped_attributes_count += self.cut(&mut span.attributes, self.attributes);
        span.events.dropped_count += shorten(&mut span.events.events, self.events);
        for event in &mut span.events.events {
            event.dropped_attributes_count += self.cut(&mut event.attributes, self.event_attributes);
        }
        span.links.dropped_count += shorten(&mut span.links.links, self.links);
        for link in &mut span.links.links {
            link.dropped_attributes_count += self.cut(&mut link.attributes, self.link_attributes);
        }
    }

    fn cut(&self, attributes: &mut Vec<KeyValue>, most: usize) -> u32 {
        let dropped = shorten(attributes, most);
        if let Some(length) = self.value_length {
            for attribute in attributes {
                cut_value(&mut attribute.value, length);
            }
        }
        dropped
    }
}

fn shorten<T>(all: &mut Vec<T>, most: usize) -> u32 {
    let more = all.len().saturating_sub(most);
    all.truncate(most);
    u32::try_from(more).unwrap_or(u32::MAX)
}

fn cut_value(value: &mut Value, length: usize) {
    match value {
        Value::String(text) => cut_text(text, length),
        Value::Array(Array::String(texts)) => texts.iter_mut().for_each(|text| cut_text(text, length)),
        _ => {}
    }
}

fn cut_text(text: &mut StringValue, length: usize) {
    if let Some((end, _)) = text.as_str().char_indices().nth(length) {
        *text = text.as_str()[..end].to_owned().into();
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use opentelemetry::trace::{Event, Link, SpanContext, SpanId, SpanKind, Status};
    use opentelemetry_sdk::trace::{SpanEvents, SpanLinks};

    use super::*;

    fn pairs() -> Vec<KeyValue> {
        let list = Value::Array(vec![StringValue::from("ä".repeat(9))].into());
        vec![
            KeyValue::new("text", "é".repeat(9)),
            KeyValue::new("list", list),
            KeyValue::new("number", 1_234_567),
        ]
    }

    fn span() -> SpanData {
        let mut events = SpanEvents::default();
        events.events = vec![Event::new("event", SystemTime::UNIX_EPOCH, pairs(), 0); 3];
        let mut links = SpanLinks::default();
        links.links = vec![Link::new(SpanContext::NONE, pairs(), 0); 3];
        SpanData {
            span_context: SpanContext::NONE,
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: "span".into(),
            start_time: SystemTime::UNIX_EPOCH,
            end_time: SystemTime::UNIX_EPOCH,
            attributes: pairs(),
            dropped_attributes_count: 0,
            events,
            links,
            status: Status::Unset,
            instrumentation_scope: super::super::spanned::scope(),
        }
    }

    #[test]
    fn what_is_more_is_cut_and_counted() {
        let mut held = span();
        let limits = Limits {
            value_length: Some(4),
            attributes: 2,
            events: 2,
            links: 1,
            event_attributes: 1,
            link_attributes: 0,
        };
        limits.hold(&mut held);
        assert_eq!((held.attributes.len(), held.dropped_attributes_count), (2, 1));
        assert_eq!((held.events.events.len(), held.events.dropped_count), (2, 1));
        assert_eq!((held.links.links.len(), held.links.dropped_count), (1, 2));
        let event = &held.events.events[0];
        assert_eq!((event.attributes.len(), event.dropped_attributes_count), (1, 2));
        let link = &held.links.links[0];
        assert_eq!((link.attributes.len(), link.dropped_attributes_count), (0, 3));
        assert_eq!(held.attributes[0], KeyValue::new("text", "éééé"));
        let list = Value::Array(vec![StringValue::from("ääää")].into());
        assert_eq!(held.attributes[1], KeyValue::new("list", list));
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        let mut held = span();
        Limits::default().hold(&mut held);
        assert_eq!(held, span());
    }
}
