//! Spans of a page that is consumed: one of the page, in a trace of its own, and one for each recorded trace whose messages
//! are in it. A span for each message would be more than anybody looks at.

use std::collections::HashMap;

use opentelemetry::KeyValue;

use super::{InboundPage, Taken, given_traceparent};
use crate::delivery::Record;
use crate::telemetry::catalogue::{
    CONSUMER_GROUP, DEAD, MESSAGE_COUNT, MESSAGE_ID, MESSAGING_OPERATION, MESSAGING_SYSTEM, MESSAGING_TYPE, NEW,
    PROCESS, RECEIVE, REPEATED, TOPIC,
};
use crate::telemetry::{Spanned, TraceContext};

/// Most traces that a page has to do with, as far as is told.
const TRACES: usize = 128;

/// The spans of a page.
#[derive(Default)]
pub(super) struct PageSpans {
    receive: Spanned,
    processes: Vec<Spanned>,
}

/// The messages of a page that one span sent.
struct Sent<'a> {
    by: TraceContext,
    first: &'a Record,
    messages: i64,
}

impl PageSpans {
    /// Spans that begin now.
    pub(super) fn begin(page: &InboundPage, group: &str) -> Self {
        if !Spanned::are_made() {
            return Self::default();
        }
        let sent = by_sender(&page.records);
        let mut receive = Spanned::begin(&RECEIVE, &page.topic, TraceContext::root(), None);
        describe(
            &mut receive,
            page,
            group,
            ("poll", "receive"),
            page.records.len() as i64,
        );
        for sent in &sent {
            receive.link(sent.by, vec![KeyValue::new(MESSAGE_COUNT.name, sent.messages)]);
        }
        let own = receive.context();
        let process = |sent: &Sent<'_>| {
            let mut span = Spanned::begin(&PROCESS, &page.topic, sent.by.child(), Some(sent.by.span_id()));
            describe(&mut span, page, group, ("process", "process"), sent.messages);
            if let (1, Ok(id)) = (sent.messages, super::identify(sent.first)) {
                span.set(&MESSAGE_ID, id.to_string());
            }
            if let Some(own) = own {
                span.link(own, Vec::new());
            }
            span
        };
        let processes = sent.iter().filter(|sent| sent.by.is_sampled()).map(process).collect();
        Self { receive, processes }
    }

    /// What settling the page is within.
    pub(super) fn context(&self) -> Option<TraceContext> {
        self.receive.context()
    }

    /// The page is settled, or will not be here.
    pub(super) fn end(mut self, taken: Option<Taken>) {
        match taken {
            Some(taken) => {
                self.receive.set(&NEW, taken.new as i64);
                self.receive.set(&REPEATED, taken.repeated as i64);
                self.receive.set(&DEAD, taken.dead as i64);
            }
            None => {
                self.receive.failed("not_settled");
                self.processes.iter_mut().for_each(|span| span.failed("not_settled"));
            }
        }
        self.processes.into_iter().for_each(Spanned::end);
        self.receive.end();
    }
}

fn describe(
    span: &mut Spanned,
    page: &InboundPage,
    group: &str,
    (name, kind): (&'static str, &'static str),
    messages: i64,
) {
    if !span.is_on() {
        return;
    }
    span.set(&MESSAGING_SYSTEM, "kafka");
    span.set(&MESSAGING_OPERATION, name);
    span.set(&MESSAGING_TYPE, kind);
    span.set(&TOPIC, page.topic.to_string());
    span.set(&CONSUMER_GROUP, group.to_owned());
    span.set(&MESSAGE_COUNT, messages);
}

/// Neighbours mostly come from the same span, so that few are looked up.
fn by_sender(records: &[Record]) -> Vec<Sent<'_>> {
    let mut all: Vec<Sent<'_>> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut last: Option<(&str, usize)> = None;
    for record in records {
        let Some(traceparent) = given_traceparent(record) else {
            continue;
        };
        let known = last
            .filter(|(before, _)| *before == traceparent)
            .map(|(_, place)| place)
            .or_else(|| places.get(traceparent).copied());
        let place = match known {
            Some(place) => place,
            None if all.len() == TRACES => continue,
            None => {
                let Some(by) = TraceContext::parse(traceparent) else {
                    continue;
                };
                all.push(Sent {
                    by,
                    first: record,
                    messages: 0,
                });
                places.insert(traceparent, all.len() - 1);
                all.len() - 1
            }
        };
        all[place].messages += 1;
        last = Some((traceparent, place));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(traceparent: Option<String>) -> Record {
        Record {
            partition: 0,
            offset: 0,
            timestamp: None,
            key: None,
            payload: Vec::new(),
            headers: traceparent
                .map(|value| ("traceparent".to_owned(), value.into_bytes()))
                .into_iter()
                .collect(),
        }
    }

    #[test]
    fn messages_are_counted_by_the_span_that_sent_them_up_to_a_bound() {
        let senders: Vec<TraceContext> = (0..TRACES + 5).map(|_| TraceContext::root()).collect();
        let by = |sender: &TraceContext| record(Some(sender.traceparent()));
        let mut records = vec![
            record(None),
            record(Some("nonsense".to_owned())),
            by(&senders[0]),
            by(&senders[0]),
        ];
        records.extend(senders.iter().skip(1).map(by));
        records.push(by(&senders[0]));
        let sent = by_sender(&records);
        assert_eq!(sent.len(), TRACES);
        assert_eq!((sent[0].by, sent[0].messages), (senders[0], 3));
        assert!(sent[1..].iter().all(|sent| sent.messages == 1));
    }
}
