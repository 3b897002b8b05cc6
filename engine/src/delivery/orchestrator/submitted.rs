//! The span of a direct command, where the one in which it was made is recorded: whoever asked for that pays for it.

use std::time::{Instant, SystemTime};

use uuid::Uuid;

use super::super::publisher::{Message, Outcome};
use super::spill::Reason;
use crate::telemetry::catalogue::{
    MESSAGE_ID, MESSAGING_OPERATION, MESSAGING_SYSTEM, MESSAGING_TYPE, PLACED, STORED_REASON, SUBMIT, TOPIC,
};
use crate::telemetry::closed::{Closed, StoredWhy};
use crate::telemetry::{Spanned, TraceContext};

/// The end of a header of a trace that is recorded.
const SAMPLED: u8 = b'1';

/// The span, made when it is known where the command was placed first.
pub(super) struct Submitted(Spanned);

impl Submitted {
    /// Of a command that was offered, or turned away, then.
    pub(super) fn of(message: &Message, message_id: Uuid, since: Instant) -> Self {
        let given = message.headers.get("traceparent");
        let sampled = given.filter(|given| given.last() == Some(&SAMPLED) && Spanned::are_made());
        let given = sampled.and_then(|given| str::from_utf8(given).ok());
        let Some(given) = given.and_then(TraceContext::parse) else {
            return Self(Spanned::default());
        };
        let mut span = Spanned::begin(&SUBMIT, &message.topic, given.child(), Some(given.span_id()));
        if span.is_on() {
            span.since(SystemTime::now() - since.elapsed());
            span.set(&MESSAGING_SYSTEM, "kafka");
            span.set(&MESSAGING_OPERATION, "submit");
            span.set(&MESSAGING_TYPE, "send");
            span.set(&TOPIC, message.topic.to_string());
            span.set(&MESSAGE_ID, message_id.to_string());
        }
        Self(span)
    }

    /// Its message has this outcome.
    pub(super) fn settled(mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Delivered { .. } => self.0.set(&PLACED, "delivered"),
            Outcome::Refused(failure) => {
                self.0.set(&PLACED, "refused");
                self.0.failed(failure.code);
            }
            Outcome::Unknown(failure) => {
                self.0.set(&PLACED, "stored");
                self.0.set(&STORED_REASON, StoredWhy::of(failure.code).text());
            }
        }
        self.0.end();
    }

    /// It goes to the table without an answer of the broker.
    pub(super) fn stored(mut self, why: Reason) {
        self.0.set(&PLACED, "stored");
        self.0.set(&STORED_REASON, StoredWhy::of(why.code_and_text().0).text());
        self.0.end();
    }
}
