//! `undelivered export`: pages of JSON lines, so that memory does not grow with what is exported.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Exit, Format, Outcome, Output};
use crate::inspect::{UndeliveredFilter, UndeliveredMessage, UndeliveredSummary};
use crate::postgres::UndeliveredDesk;

const PAGE: i32 = 500;

#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    summary: &'a UndeliveredSummary,
    #[serde(flatten)]
    content: Option<Map<String, Value>>,
}

pub(super) async fn export(desk: &UndeliveredDesk, filter: &UndeliveredFilter, with_payload: bool) -> Outcome {
    let lines = Output { format: Format::Jsonl };
    let mut older_than = None;
    loop {
        let page = desk.list(filter, older_than, PAGE).await?;
        let mut contents: HashMap<Uuid, _> = HashMap::new();
        if with_payload {
            let ids: Vec<Uuid> = page.iter().map(|message| message.id).collect();
            let messages = desk.export(&ids).await?.into_iter();
            contents = messages.map(|message| (message.id, content(message))).collect();
        }
        let printed: Vec<Line<'_>> = page
            .iter()
            .map(|summary| Line {
                content: contents.remove(&summary.id),
                summary,
            })
            .collect();
        lines.list(&[], &printed, |_| Vec::new())?;
        match page.last() {
            Some(last) if page.len() == PAGE as usize => older_than = Some(last.id),
            _ => return Ok(Exit::Ok),
        }
    }
}

fn content(message: UndeliveredMessage) -> Map<String, Value> {
    let mut content = Map::new();
    content.insert("headers".to_owned(), json!(message.headers));
    put_bytes(&mut content, "key", message.key);
    put_bytes(&mut content, "payload", message.payload);
    content
}

/// Bytes under their name when they are text, else as hexadecimal digits under a name that says so: nothing is lost.
fn put_bytes(content: &mut Map<String, Value>, name: &str, bytes: Option<Vec<u8>>) {
    match bytes.map(String::from_utf8) {
        None => content.insert(name.to_owned(), Value::Null),
        Some(Ok(text)) => content.insert(name.to_owned(), text.into()),
        Some(Err(error)) => {
            let hex = error.as_bytes().iter().fold(String::new(), |mut hex, byte| {
                // Writing to a string cannot fail.
                let _ = write!(hex, "{byte:02x}");
                hex
            });
            content.insert(format!("{name}_hex"), hex.into())
        }
    };
}
