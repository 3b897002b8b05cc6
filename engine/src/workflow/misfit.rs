//! Why JSON does not fit a type, in words of ours. The parser's own text quotes the value that it met, and what is said here
//! becomes the reason of a run, which is logged and shown to everybody who may look.

use serde_json::error::Category;

/// What the parser's text begins with when the type's expectation ends it.
const OF_A_TYPE: [&str; 5] = [
    "invalid type: ",
    "invalid value: ",
    "invalid length ",
    "unknown variant ",
    "unknown field ",
];
/// What it begins with when it names a field of the type and nothing else.
const OF_A_FIELD: [&str; 2] = ["missing field ", "duplicate field "];

/// What was expected there, and where that is.
pub(crate) fn misfit(error: &serde_json::Error) -> String {
    let place = format!("line {}, column {}", error.line(), error.column());
    if error.classify() != Category::Data {
        return format!("it is no whole JSON, see {place}");
    }
    let said = error.to_string();
    let own = format!(" at line {} column {}", error.line(), error.column());
    let said = said.strip_suffix(&own).unwrap_or(&said);
    let begins = |with: &[&str]| with.iter().any(|with| said.starts_with(with));
    match said.rsplit_once(", expected ") {
        Some((_, expected)) if begins(&OF_A_TYPE) => format!("expected {expected} at {place}"),
        _ if begins(&OF_A_FIELD) => format!("{said} at {place}"),
        // Of a type's own making, which may quote anything.
        _ => format!("a value is not one that it takes, see {place}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fmt::Debug;

    use serde::Deserialize;
    use serde::de::DeserializeOwned;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read into")]
    struct Order {
        items: u32,
        kind: Option<Kind>,
        at: Option<chrono::DateTime<chrono::Utc>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Paid,
    }

    fn of<T: DeserializeOwned + Debug>(json: &str) -> String {
        misfit(&serde_json::from_str::<T>(json).unwrap_err())
    }

    #[test]
    fn what_was_expected_and_where_is_said() {
        let cases = [
            (r#"{"items": "x"}"#, "expected u32 at line 1, column 13"),
            (r#"{}"#, "missing field `items` at line 1, column 2"),
            (
                r#"{"items": 1, "size": 2}"#,
                "expected one of `items`, `kind`, `at` at line 1, column 19",
            ),
            (
                r#"{"items": 1, "kind": "free"}"#,
                "expected `paid` at line 1, column 27",
            ),
            (r#"{"items": "#, "it is no whole JSON, see line 1, column 10"),
        ];
        for (json, said) in cases {
            assert_eq!(of::<Order>(json), said, "{json}");
        }
    }

    #[test]
    fn what_was_met_is_not() {
        for json in [
            r#"{"items": "ada@example.org"}"#,
            r#"{"items": ", expected ada"}"#,
            r#"{"items": 1, "ada": 1}"#,
            r#"{"items": 1, "kind": "ada"}"#,
            r#"{"items": 1, "at": "ada"}"#,
            r#"{"items": 1 ada}"#,
        ] {
            let said = of::<Order>(json);
            assert!(!said.contains("ada"), "{json}: {said}");
        }
    }
}
