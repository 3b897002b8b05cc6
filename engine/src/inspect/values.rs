//! What a run was given, and what it returned.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What a run was given, and what it returned. It may hold personal data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunValues {
    /// Its input.
    pub params: Document,
    /// Its output, or that of the run that goes on in its place; none: that is not over, or did not come to an output.
    pub output: Option<Document>,
}

/// A JSON document in its exact text. In other JSON it stands as it is, numbers and order of names included.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Document(Box<RawValue>);

impl Document {
    /// Of stored bytes; what is no JSON, as only a hand in the tables leaves it, as a text.
    pub(crate) fn of(stored: &[u8]) -> Self {
        let text = String::from_utf8_lossy(stored);
        let read = serde_json::from_str::<&RawValue>(&text).map(ToOwned::to_owned);
        let read = read.or_else(|_| serde_json::value::to_raw_value(&text));
        Self(read.unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Document {}

impl JsonSchema for Document {
    fn schema_name() -> Cow<'static, str> {
        "AnyJson".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!(true)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_stands_in_others_as_it_was_written() {
        let exact = r#"{"z": 18446744073709551616, "a": "\u0000", "f": 1.50}"#;
        let within = serde_json::to_string(&[Document::of(exact.as_bytes())]).unwrap();
        assert_eq!(within, format!("[{exact}]"));
        assert_eq!(serde_json::to_value(Document::of(b"[1, 2]\n")).unwrap(), json!([1, 2]));
        let read: Document = serde_json::from_str("[1, 2]").unwrap();
        assert_eq!(read.as_str(), "[1, 2]");
        for wrong in [&b"{"[..], b"", b"\xff"] {
            assert!(Document::of(wrong).as_str().starts_with('"'));
        }
    }
}
