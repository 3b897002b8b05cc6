//! The first kind of command: an e-mail to be sent by whoever consumes the topic.

use std::borrow::Cow;

use oxilangtag::LanguageTag;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};

use super::command::{Command, CommandKind, InvalidCommand, fresh_correlation_id};
use super::key_hash::KeyHash;

/// Kind of the e-mail commands.
pub const EMAIL: &str = "email";

/// Largest JSON of an e-mail command, in bytes: what is larger belongs where the template can fetch it.
pub const LARGEST_EMAIL: usize = 64 << 10;

/// Longest template id, correlation id and idempotency key, in characters.
const LONGEST_NAME: usize = 200;

/// A well-formed tag of BCP 47, as readers without a parser of it may check; the last line are the irregular old ones.
pub(super) const LOCALE_PATTERN: &str = concat!(
    "^(([A-Za-z]{2,3}(-[A-Za-z]{3}){0,3}|[A-Za-z]{4,8})(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?",
    "(-([A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*(-[0-9A-WY-Za-wy-z](-[A-Za-z0-9]{2,8})+)*",
    "(-[Xx](-[A-Za-z0-9]{1,8})+)?|[Xx](-[A-Za-z0-9]{1,8})+",
    "|i-(ami|bnn|default|enochian|hak|klingon|lux|mingo|navajo|pwn|tao|tay|tsu)|en-GB-oed|sgn-(BE-FR|BE-NL|CH-DE))$",
);

/// Text that headers and tables can keep.
pub(super) const NAME_PATTERN: &str = "^[^\\u0000]+$";

/// Name of the schema that goes with this version of the command.
pub const EMAIL_SCHEMA: &str = "email-trigger-command.v1.json";

/// All that is needed to send an e-mail, without its text. Borrowed where it is made per item. Fields that it does not
/// know are an error: a misspelt one would be lost in silence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(
    rename = "EmailTriggerCommand",
    description = "All that is needed to send an e-mail, without its text. Version 1 of the value of its message."
)]
pub struct EmailTriggerCommand<'a, C = serde_json::Value> {
    /// Whom it goes to.
    #[schemars(length(min = 3, max = 254), extend("format" = "email"))]
    pub recipient_email: Cow<'a, str>,
    /// Which template.
    #[schemars(length(min = 1, max = 200), extend("pattern" = NAME_PATTERN))]
    pub template_id: Cow<'a, str>,
    /// What the template needs, any JSON.
    pub template_context: C,
    /// Language of the recipient, a BCP 47 tag.
    #[schemars(extend("pattern" = LOCALE_PATTERN))]
    pub locale: Cow<'a, str>,
    /// Correlates it with what caused it; when not given, the current trace's id, else a new one.
    #[serde(default = "fresh_correlation_id")]
    #[schemars(length(min = 1, max = 200), extend("pattern" = NAME_PATTERN))]
    pub correlation_id: Cow<'a, str>,
    /// The recipient's id, and the message's key.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(extend("minimum" = i64::MIN, "maximum" = i64::MAX))]
    pub user_id: Option<i64>,
}

impl<C: Serialize> EmailTriggerCommand<'_, C> {
    /// Checks it and makes the command of it. Without a user's id it has no key.
    ///
    /// # Errors
    /// A field is not as it must be, or the context is not JSON.
    pub fn into_command(self) -> anyhow::Result<Command> {
        Command::of(&self, &KeyHash::none())
    }
}

impl<C: Serialize> CommandKind for EmailTriggerCommand<'_, C> {
    const TYPE: &'static str = EMAIL;

    fn validate(&self) -> Result<(), InvalidCommand> {
        let check = |ok: bool, field, problem| {
            if ok {
                Ok(())
            } else {
                Err(InvalidCommand { field, problem })
            }
        };
        check(
            is_address(&self.recipient_email),
            "recipientEmail",
            "is not an e-mail address",
        )?;
        check(is_name(&self.template_id), "templateId", NO_NAME)?;
        check(
            LanguageTag::parse(&*self.locale).is_ok(),
            "locale",
            "is not a BCP 47 language tag such as de or pt-BR",
        )?;
        check(is_name(&self.correlation_id), "correlationId", NO_NAME)
    }

    fn weight(&self) -> usize {
        // What the context holds beside itself is not known before it is written.
        self.recipient_email.len() + self.template_id.len() + self.locale.len() + self.correlation_id.len()
    }

    fn validate_json(&self, json: &[u8]) -> Result<(), InvalidCommand> {
        match json.len() > LARGEST_EMAIL {
            true => Err(InvalidCommand {
                field: "templateContext",
                problem: "makes the command larger than 64 KiB",
            }),
            false => Ok(()),
        }
    }

    /// The user's id, else a keyed hash of the address: never the address itself.
    fn key(&self, hash: &KeyHash) -> Option<Vec<u8>> {
        match self.user_id {
            Some(id) => Some(id.to_string().into_bytes()),
            None => hash.of(self.recipient_email.to_ascii_lowercase().as_bytes()),
        }
    }

    fn correlation_id(&self) -> &str {
        &self.correlation_id
    }
}

/// What is wrong with a text that [`is_name`] does not take.
pub(super) const NO_NAME: &str = "is empty, longer than 200 characters, or has a zero character";

/// Whether a text can be a template id, a correlation id or an idempotency key.
pub(super) fn is_name(text: &str) -> bool {
    // Counted only when there may be too many: this runs once an item.
    let fits = text.len() <= LONGEST_NAME || text.chars().count() <= LONGEST_NAME;
    fits && !text.is_empty() && !text.contains('\0')
}

/// Catches what no mail server takes; whether the address exists is for the mail server to say.
fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let clean = |byte: u8| byte > b' ' && byte != 0x7f;
    text.len() <= 254 && !local.is_empty() && !domain.is_empty() && text.bytes().all(clean)
}

/// The JSON schema of the message's value, as it is shipped and served.
#[must_use]
pub fn email_schema() -> serde_json::Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = settings.into_generator().into_root_schema_for::<EmailTriggerCommand>();
    schema.insert("$id".to_owned(), "urn:lockgate:email-trigger-command:v1".into());
    let mut schema = schema.to_value();
    // Made anew each time: no default that a schema could name.
    if let Some(field) = schema["properties"]["correlationId"].as_object_mut() {
        field.remove("default");
    }
    schema
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn command<'a>() -> EmailTriggerCommand<'a> {
        EmailTriggerCommand {
            recipient_email: "ada@example.org".into(),
            template_id: "daily-task-report".into(),
            template_context: serde_json::json!({"done": 3}),
            locale: "pt-BR".into(),
            correlation_id: "c-1".into(),
            user_id: Some(7),
        }
    }

    #[test]
    fn the_json_has_the_promised_fields_and_the_key_is_the_user_id() {
        let made = command().into_command().unwrap();
        assert_eq!(
            String::from_utf8(made.payload).unwrap(),
            r#"{"recipientEmail":"ada@example.org","templateId":"daily-task-report","templateContext":{"done":3},"locale":"pt-BR","correlationId":"c-1","userId":7}"#
        );
        assert_eq!(made.key.as_deref(), Some(b"7".as_slice()));
    }

    #[test]
    fn a_bad_field_is_named_and_not_quoted() {
        for (field, bad) in [
            (
                "recipientEmail",
                EmailTriggerCommand {
                    recipient_email: "no address".into(),
                    ..command()
                },
            ),
            (
                "recipientEmail",
                EmailTriggerCommand {
                    recipient_email: "a@\u{7f}b".into(),
                    ..command()
                },
            ),
            (
                "templateId",
                EmailTriggerCommand {
                    template_id: "".into(),
                    ..command()
                },
            ),
            (
                "locale",
                EmailTriggerCommand {
                    locale: "d".into(),
                    ..command()
                },
            ),
            (
                "locale",
                EmailTriggerCommand {
                    locale: "de_DE".into(),
                    ..command()
                },
            ),
            (
                "correlationId",
                EmailTriggerCommand {
                    correlation_id: "".into(),
                    ..command()
                },
            ),
        ] {
            let said = bad.into_command().unwrap_err().to_string();
            assert!(said.starts_with(field), "{said}");
            assert!(!said.contains("no address"), "{said}");
        }
    }
}
