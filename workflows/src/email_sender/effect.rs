//! The effect of an e-mail command: a row with its text, written in the transaction in which its id is remembered.

use std::sync::Arc;

use async_trait::async_trait;
use lettre::Address;
use lockgate::delivery::{Record, Rejection, traceparent_of};
use lockgate::postgres::{Effect, EffectError};
use minijinja::Value;
use serde::Deserialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::templates::{Templates, Text};

/// Makes e-mails of commands.
pub struct SendEmails {
    templates: Arc<Templates>,
    /// In which state an e-mail begins.
    state: &'static str,
}

/// The command as it is read. Fields that it does not know are passed over: a newer producer may send them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Incoming {
    recipient_email: String,
    template_id: String,
    template_context: Value,
    locale: String,
    correlation_id: String,
}

/// An e-mail whose text is made.
pub struct Email {
    incoming: Incoming,
    text: Text,
    traceparent: Option<String>,
}

impl SendEmails {
    /// E-mails that wait for the sender.
    #[must_use]
    pub fn queued(templates: Arc<Templates>) -> Self {
        Self {
            templates,
            state: "queued",
        }
    }

    /// E-mails that are only recorded, for want of a server.
    #[must_use]
    pub fn recorded(templates: Arc<Templates>) -> Self {
        Self {
            templates,
            state: "recorded",
        }
    }
}

#[async_trait]
impl Effect for SendEmails {
    type Prepared = Email;

    fn prepare(&self, _message_id: Uuid, record: &Record) -> Result<Email, Rejection> {
        let incoming: Incoming = serde_json::from_slice(&record.payload).map_err(|error| {
            // The error's own text quotes what it met.
            let (line, column) = (error.line(), error.column());
            Rejection::new(
                "not_a_command",
                format!("its value is no e-mail command, see line {line}, column {column}"),
            )
        })?;
        if incoming.recipient_email.parse::<Address>().is_err() {
            return Err(Rejection::new("bad_recipient", "its recipientEmail is not an address"));
        }
        let text = self
            .templates
            .render(&incoming.template_id, &incoming.locale, &incoming.template_context)?;
        let texts = [
            &incoming.template_id,
            &incoming.correlation_id,
            &text.subject,
            &text.body,
        ];
        if texts.iter().any(|text| text.contains('\0')) {
            return Err(Rejection::new("zero_character", "its text contains a zero character"));
        }
        Ok(Email {
            incoming,
            text,
            traceparent: traceparent_of(record).map(str::to_owned),
        })
    }

    async fn apply(&self, connection: &mut PgConnection, new: &[(Uuid, &Email)]) -> Result<(), EffectError> {
        fn all<'a>(new: &[(Uuid, &'a Email)], of: impl Fn(&'a Email) -> &'a str) -> Vec<&'a str> {
            new.iter().map(|(_, email)| of(email)).collect()
        }
        sqlx::query(include_str!("../../sql/mail/record_mails.sql"))
            .bind(new.iter().map(|(id, _)| *id).collect::<Vec<_>>())
            .bind(all(new, |email| &email.incoming.recipient_email))
            .bind(all(new, |email| &email.incoming.template_id))
            .bind(all(new, |email| &email.text.locale))
            .bind(all(new, |email| &email.text.subject))
            .bind(all(new, |email| &email.text.body))
            .bind(all(new, |email| &email.incoming.correlation_id))
            .bind(
                new.iter()
                    .map(|(_, email)| email.traceparent.as_deref())
                    .collect::<Vec<_>>(),
            )
            .bind(self.state)
            .execute(connection)
            .await?;
        Ok(())
    }
}
