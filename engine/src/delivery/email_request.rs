//! An e-mail command as a service in another process writes it: the command's fields, when it may go, and the key under
//! which a repeat is the same.

use std::borrow::Cow;

use chrono::{DateTime, Datelike, Utc};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::command::{InvalidCommand, fresh_correlation_id};
use super::direct::Direct;
use super::email::{EmailTriggerCommand, LOCALE_PATTERN, NAME_PATTERN, NO_NAME, is_name};

/// What is asked for. Fields that it does not know are an error: a misspelt one would be lost in silence.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EmailCommandRequest<'a> {
    /// Whom it goes to.
    #[serde(borrow)]
    #[schemars(length(min = 3, max = 254), extend("format" = "email"))]
    pub recipient_email: Cow<'a, str>,
    /// Which template.
    #[serde(borrow)]
    #[schemars(length(min = 1, max = 200), extend("pattern" = NAME_PATTERN))]
    pub template_id: Cow<'a, str>,
    /// What the template needs, any JSON whose numbers are within the range of a double, of whole characters, nested at most
    /// 127 deep; with it the command takes at most 64 KiB.
    #[schemars(with = "Value")]
    pub template_context: &'a RawValue,
    /// Language of the recipient, a BCP 47 tag.
    #[serde(borrow)]
    #[schemars(extend("pattern" = LOCALE_PATTERN))]
    pub locale: Cow<'a, str>,
    /// Correlates it with what caused it; when not given, the trace's id, else a new one.
    #[schemars(length(min = 1, max = 200), extend("pattern" = NAME_PATTERN))]
    pub correlation_id: Option<Cow<'a, str>>,
    /// The recipient's id, and the message's key.
    #[schemars(extend("minimum" = i64::MIN, "maximum" = i64::MAX))]
    pub user_id: Option<i64>,
    /// Not sent before then.
    pub not_before: Option<DateTime<Utc>>,
    /// A repeat under the same key has the same `message-id`, so that consumers drop it.
    #[schemars(length(min = 1, max = 200), extend("pattern" = NAME_PATTERN))]
    pub idempotency_key: Option<Cow<'a, str>>,
}

/// Why a request is no command. Names the field where it is known, never its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", .field.as_ref().map(|field| format!("{field} ")).unwrap_or_default())]
pub struct InvalidRequest {
    /// The field, as the JSON names it.
    pub field: Option<Cow<'static, str>>,
    /// What is wrong.
    pub problem: Cow<'static, str>,
}

impl From<InvalidCommand> for InvalidRequest {
    fn from(invalid: InvalidCommand) -> Self {
        Self::of(invalid.field, invalid.problem)
    }
}

impl InvalidRequest {
    fn of(field: &'static str, problem: &'static str) -> Self {
        Self {
            field: Some(field.into()),
            problem: problem.into(),
        }
    }
}

impl<'a> EmailCommandRequest<'a> {
    /// Reads one JSON document.
    ///
    /// # Errors
    /// It is not JSON, a field is missing, unknown or of the wrong kind.
    pub fn read(json: &'a [u8]) -> Result<Self, InvalidRequest> {
        serde_json::from_slice(json).map_err(|error| diagnose(json, &error))
    }

    /// The command with what is to be known of its delivery; `trace` is the trace's id, for commands without a
    /// correlation id.
    ///
    /// # Errors
    /// A field cannot be as it is.
    pub fn into_direct(
        self,
        trace: Option<&'a str>,
    ) -> Result<Direct<EmailTriggerCommand<'a, &'a RawValue>>, InvalidRequest> {
        // Consumers read it as values: numbers in range, whole characters, not nested without end.
        if serde_json::from_str::<Value>(self.template_context.get()).is_err() {
            return Err(InvalidRequest::of(
                "templateContext",
                "holds what JSON readers do not take: a number out of range, half a character, or 128 levels",
            ));
        }
        let correlation_id = match self.correlation_id.or_else(|| trace.map(Cow::Borrowed)) {
            Some(known) => known,
            None => fresh_correlation_id(),
        };
        let mut direct = Direct::new(EmailTriggerCommand {
            recipient_email: self.recipient_email,
            template_id: self.template_id,
            template_context: self.template_context,
            locale: self.locale,
            correlation_id,
            user_id: self.user_id,
        });
        if let Some(key) = self.idempotency_key {
            if !is_name(&key) {
                return Err(InvalidRequest::of("idempotencyKey", NO_NAME));
            }
            direct = direct.idempotency_key(&key);
        }
        if let Some(at) = self.not_before {
            // With its offset an instant of RFC 3339 may lie a year further; what is far beyond, no table keeps.
            if !(-1..=10_000).contains(&at.year()) {
                return Err(InvalidRequest::of("notBefore", "is beyond the year 9999"));
            }
            direct = direct.not_before(at);
        }
        Ok(direct)
    }
}

/// The fields in the order of the schema: name, kind, whether it must be there.
const FIELDS: [(&str, Kind, bool); 8] = [
    ("recipientEmail", Kind::Text, true),
    ("templateId", Kind::Text, true),
    ("templateContext", Kind::Any, true),
    ("locale", Kind::Text, true),
    ("correlationId", Kind::Text, false),
    ("userId", Kind::Whole, false),
    ("notBefore", Kind::Instant, false),
    ("idempotencyKey", Kind::Text, false),
];

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Any,
    Whole,
    Instant,
}

impl Kind {
    /// What is wrong with a value.
    fn misfit(self, value: &Value) -> Option<&'static str> {
        match self {
            Self::Text => (!value.is_string()).then_some("is not text"),
            Self::Any => None,
            Self::Whole => value.as_i64().is_none().then_some("is not a whole number of 64 bits"),
            Self::Instant => {
                let read = value.as_str().map(str::parse::<DateTime<Utc>>);
                (!matches!(read, Some(Ok(_)))).then_some("is not an instant of RFC 3339 such as 2026-01-31T06:00:00Z")
            }
        }
    }
}

/// Looks again at a document that could not be read, to say which field is wrong. Slower, and only for those.
fn diagnose(json: &[u8], error: &serde_json::Error) -> InvalidRequest {
    let whole = |problem: Cow<'static, str>| InvalidRequest { field: None, problem };
    let fields = match serde_json::from_slice(json) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) => return whole("the command is not a JSON object".into()),
        // Its text names a place, never what stands there.
        Err(error) => return whole(format!("the command is not JSON: {error}").into()),
    };
    let unknown = |name: &&String| !FIELDS.iter().any(|(known, _, _)| known == name);
    if let Some(name) = fields.keys().find(unknown) {
        return InvalidRequest {
            field: Some(name.chars().take(100).collect::<String>().into()),
            problem: "is not a field of the command".into(),
        };
    }
    for (name, kind, required) in FIELDS {
        match fields.get(name) {
            None if required => return InvalidRequest::of(name, "is missing"),
            Some(value) if required || !value.is_null() => {
                if let Some(problem) = kind.misfit(value) {
                    return InvalidRequest::of(name, problem);
                }
            }
            _ => {}
        }
    }
    let twice = |(name, _, _): &&(&'static str, Kind, bool)| error.to_string().contains(&format!("`{name}`"));
    match FIELDS.iter().find(twice) {
        Some((name, _, _)) => InvalidRequest::of(name, "is given twice"),
        None => whole("the command cannot be read".into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::delivery::{CommandKind, keyed_id};

    const WHOLE: &str = r#"{"recipientEmail":"ada@example.org","templateId":"welcome","templateContext":{"a": [1.50]},
        "locale":"pt-BR","userId":7,"notBefore":"2030-01-01T00:00:00+01:00","idempotencyKey":"k"}"#;

    #[test]
    fn a_request_becomes_the_command_with_its_context_byte_by_byte() {
        let request = EmailCommandRequest::read(WHOLE.as_bytes()).unwrap();
        let direct = request.into_direct(Some("0af7651916cd43dd8448eb211c80319c")).unwrap();
        assert_eq!(direct.message_id, keyed_id("email", "k"));
        assert_eq!(direct.not_before.unwrap().to_rfc3339(), "2029-12-31T23:00:00+00:00");
        assert_eq!(
            serde_json::to_string(&direct.command).unwrap(),
            r#"{"recipientEmail":"ada@example.org","templateId":"welcome","templateContext":{"a": [1.50]},"locale":"pt-BR","correlationId":"0af7651916cd43dd8448eb211c80319c","userId":7}"#
        );
    }

    /// The largest double there is, as a whole number and by its exponent: no reader may take one and refuse the other.
    #[test]
    fn a_number_is_taken_or_refused_whatever_its_spelling() {
        let whole = format!("{:.0}", f64::MAX);
        assert_eq!(whole.len(), 309);
        for spelled in [&*whole, &format!("-{whole}.0"), "1.7976931348623157e+308", "5e-324"] {
            let json = WHOLE.replace("1.50", spelled);
            let direct = EmailCommandRequest::read(json.as_bytes()).unwrap().into_direct(None);
            assert!(direct.unwrap().command.template_context.get().contains(spelled));
            let read: f64 = serde_json::from_str(spelled).unwrap();
            assert_eq!(read, spelled.parse::<f64>().unwrap());
        }
        let beyond = WHOLE.replace("1.50", &format!("{whole}0"));
        assert_eq!(refusal(&beyond).field.as_deref(), Some("templateContext"));
    }

    fn refusal(json: &str) -> InvalidRequest {
        let made = EmailCommandRequest::read(json.as_bytes()).and_then(|request| {
            let direct = request.into_direct(None)?;
            Ok(direct.command.validate()?)
        });
        made.unwrap_err()
    }

    #[test]
    fn a_bad_field_is_named_and_not_quoted() {
        for (from, to, field) in [
            (r#""templateId":"welcome","#, "", "templateId"),
            ("templateId", "templateID", "templateID"),
            (r#""ada@example.org""#, "17", "recipientEmail"),
            ("ada@example.org", "geheim", "recipientEmail"),
            ("pt-BR", "geheim_DE", "locale"),
            (r#""userId":7"#, r#""userId":"geheim""#, "userId"),
            (r#""userId":7"#, r#""userId":9223372036854775808"#, "userId"),
            (r#""userId":7"#, r#""locale":"de""#, "locale"),
            ("2030-01-01T00:00:00+01:00", "geheim", "notBefore"),
            ("2030-01-01T00", "+12030-01-01T00", "notBefore"),
            (r#""k""#, &format!("\"{}\"", "ü".repeat(201)), "idempotencyKey"),
            (r#""k""#, r#""""#, "idempotencyKey"),
            (r#""userId":7"#, r#""correlationId":"""#, "correlationId"),
            ("[1.50]", "[1e999]", "templateContext"),
            ("[1.50]", r#"["\ud800"]"#, "templateContext"),
        ] {
            let found = refusal(&WHOLE.replacen(from, to, 1));
            assert_eq!(found.field.as_deref(), Some(field), "{from} → {to}: {found}");
            assert!(!found.to_string().contains("geheim"), "{found}");
        }
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        assert_eq!(
            refusal(&WHOLE.replace("[1.50]", &deep)).field.as_deref(),
            Some("templateContext")
        );
        for whole in ["", "[]", "{", "{\"recipientEmail\":\"geheim\"", "\u{feff}{}"] {
            let found = refusal(whole);
            assert!(
                found.field.is_none() && !found.to_string().contains("geheim"),
                "{whole}: {found}"
            );
        }
    }
}
