//! The message of a row of the outbox.

use std::sync::Arc;

use super::store::{OutboxRow, Place};
use crate::delivery::{Headers, Message};

/// A row whose message is made.
pub(super) struct Outgoing {
    pub(super) place: Place,
    pub(super) message: Message,
    /// Its headers could not be read: it is not sent.
    pub(super) broken: bool,
}

/// The message, the same each time it is made. What SQL cannot make is added: its own id first, the checksum last.
pub(super) fn outgoing(topic: &Arc<str>, row: OutboxRow) -> Outgoing {
    let mut id = uuid::Uuid::encode_buffer();
    let broken = row.headers.is_none();
    let stored = row.headers.unwrap_or_default();
    let mut headers = Headers::with_capacity(stored.len() + 2, stored.size() + 80);
    headers.push(
        "message-id",
        row.message_id.hyphenated().encode_lower(&mut id).as_bytes(),
    );
    headers.append(&stored);
    if stored.get("crc32c").is_none() {
        headers.push("crc32c", format!("{:08x}", crc32c::crc32c(&row.payload)).as_bytes());
    }
    Outgoing {
        place: row.place,
        message: Message {
            topic: topic.clone(),
            key: row.key,
            payload: row.payload,
            headers,
        },
        broken,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn row(headers: &[(&str, &str)]) -> OutboxRow {
        OutboxRow {
            place: Place::default(),
            message_id: Uuid::nil(),
            key: None,
            headers: Some(headers.iter().copied().collect()),
            payload: b"123456789".to_vec(),
        }
    }

    #[test]
    fn what_sql_cannot_make_is_added_and_what_is_there_is_kept() {
        // The check value of CRC-32C.
        let made = outgoing(&"topic".into(), row(&[("correlation-id", "c"), ("traceparent", "t")]));
        let expected = [
            ("message-id", "00000000-0000-0000-0000-000000000000"),
            ("correlation-id", "c"),
            ("traceparent", "t"),
            ("crc32c", "e3069283"),
        ];
        assert_eq!(made.message.headers, expected.into_iter().collect());
        let kept = outgoing(&"topic".into(), row(&[("crc32c", "00000000")]))
            .message
            .headers;
        let unread = OutboxRow {
            headers: None,
            ..row(&[])
        };
        assert!(outgoing(&"topic".into(), unread).broken && !made.broken);
        assert_eq!((kept.len(), kept.get("crc32c")), (2, Some(b"00000000".as_slice())));
    }
}
