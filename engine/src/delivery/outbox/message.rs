//! The message of a row of the outbox.

use std::sync::Arc;

use super::store::OutboxRow;
use crate::delivery::{Headers, Message};

/// The message, the same each time it is made. What SQL cannot make is added: its own id first, the checksum last.
pub(super) fn message(topic: &Arc<str>, row: &OutboxRow) -> Message {
    let mut headers = Headers::with_capacity(row.headers.len() + 2, 192);
    each_header(row, |name, value| headers.push(name, value.as_bytes()));
    Message {
        topic: topic.clone(),
        key: row.key.clone(),
        payload: row.payload.clone(),
        headers,
    }
}

/// The headers of that message.
pub(super) fn headers(row: &OutboxRow) -> Vec<(String, String)> {
    let mut headers = Vec::with_capacity(row.headers.len() + 2);
    each_header(row, |name, value| headers.push((name.to_owned(), value.to_owned())));
    headers
}

fn each_header(row: &OutboxRow, mut each: impl FnMut(&str, &str)) {
    let mut id = uuid::Uuid::encode_buffer();
    each("message-id", row.message_id.hyphenated().encode_lower(&mut id));
    for (name, value) in &row.headers {
        each(name, value);
    }
    if !row.headers.iter().any(|(name, _)| name == "crc32c") {
        each("crc32c", &format!("{:08x}", crc32c::crc32c(&row.payload)));
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::store::Place;
    use super::*;

    fn row(headers: &[(&str, &str)]) -> OutboxRow {
        let owned = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        OutboxRow {
            place: Place::default(),
            command_type: "email".to_owned(),
            message_id: Uuid::nil(),
            key: None,
            headers: owned.collect(),
            payload: b"123456789".to_vec(),
        }
    }

    #[test]
    fn what_sql_cannot_make_is_added_and_what_is_there_is_kept() {
        // The check value of CRC-32C.
        let made = message(&"topic".into(), &row(&[("correlation-id", "c"), ("traceparent", "t")]));
        let expected = [
            ("message-id", "00000000-0000-0000-0000-000000000000"),
            ("correlation-id", "c"),
            ("traceparent", "t"),
            ("crc32c", "e3069283"),
        ];
        assert_eq!(made.headers, expected.into_iter().collect());
        let kept = headers(&row(&[("crc32c", "00000000")]));
        assert_eq!(kept.last(), Some(&("crc32c".to_owned(), "00000000".to_owned())));
        assert_eq!(kept.len(), 2);
    }
}
