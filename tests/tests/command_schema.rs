//! The JSON schema that is shipped is the one of the type that is sent (R36.7).
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use lockgate::delivery::{EMAIL_SCHEMA, email_schema};
use serde_json::json;

fn shipped() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../schema/json")
        .join(EMAIL_SCHEMA)
}

/// With `LOCKGATE_WRITE_SCHEMA=1` it writes the file instead.
#[test]
fn the_shipped_schema_is_up_to_date() {
    let made = serde_json::to_string_pretty(&email_schema()).unwrap() + "\n";
    if std::env::var_os("LOCKGATE_WRITE_SCHEMA").is_some() {
        std::fs::write(shipped(), &made).unwrap();
    }
    let found = std::fs::read_to_string(shipped()).unwrap();
    assert_eq!(found, made, "write it anew with LOCKGATE_WRITE_SCHEMA=1");
}

/// Version 1 as it was first shipped: what may not change without a version 2.
#[test]
fn version_1_keeps_its_promises() {
    let schema = email_schema();
    assert_eq!(schema["additionalProperties"], false);
    let required = [
        "recipientEmail",
        "templateId",
        "templateContext",
        "locale",
        "correlationId",
    ];
    assert_eq!(schema["required"], json!(required));
    for (field, kind) in [
        ("recipientEmail", json!("string")),
        ("templateId", json!("string")),
        ("locale", json!("string")),
        ("correlationId", json!("string")),
        ("userId", json!(["integer", "null"])),
    ] {
        assert_eq!(schema["properties"][field]["type"], kind, "{field}");
    }
    assert!(
        schema["properties"]["templateContext"].get("type").is_none(),
        "any JSON"
    );
}
