//! What the reference consumer of e-mail commands tells of what it sends; it is a crate of its own.

use uuid::Uuid;

use super::catalogue::{MAIL_ATTEMPTS, MAIL_OUTCOME, MAILS, MESSAGE_ID, SEND_MAIL};
use super::closed::{Closed, MailEnd};
use super::{Spanned, TraceContext, meters};

/// E-mails wait, and the mail server granted no connection: it takes nothing of ours, as when it bars one.
pub fn barred() {
    meters().count(&MAILS, &[MailEnd::Barred.text()]).add(1);
}

/// An e-mail that is handed to the mail server.
#[must_use = "it is told at its end"]
pub struct MailTold(Spanned);

impl MailTold {
    /// It begins, within the span that sent its command, if that is recorded.
    pub fn begin(message_id: Uuid, traceparent: Option<&str>, attempts: i32) -> Self {
        let Some(given) = traceparent.and_then(TraceContext::parse) else {
            return Self(Spanned::default());
        };
        let mut span = Spanned::begin(&SEND_MAIL, "", given.child(), Some(given.span_id()));
        if span.is_on() {
            span.set(&MESSAGE_ID, message_id.to_string());
            span.set(&MAIL_ATTEMPTS, i64::from(attempts));
        }
        Self(span)
    }

    /// This became of it: `sent`, `failed`, `put_off` or `barred`.
    pub fn end(mut self, outcome: &str) {
        let Some(end) = MailEnd::named(outcome) else {
            debug_assert!(false, "no e-mail ends as {outcome}");
            return;
        };
        meters().count(&MAILS, &[end.text()]).add(1);
        self.0.set(&MAIL_OUTCOME, end.text());
        if end == MailEnd::Failed {
            self.0.failed(end.text());
        }
        self.0.end();
    }
}
