//! The broker of a test: it takes every message and keeps it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;

use crate::delivery::{Message, Outcome, Publisher, Rejected, Ticket, TopicError, TopicInfo};

/// A message as it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentMessage(Message);

impl SentMessage {
    /// Its topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.0.topic
    }

    /// Its partitioning key.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.0.key.as_deref()
    }

    /// Its exact bytes.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.0.payload
    }

    /// Its payload, read as JSON.
    ///
    /// # Panics
    /// It is something else.
    #[must_use]
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        match serde_json::from_slice(&self.0.payload) {
            Ok(read) => read,
            Err(why) => panic!("a message on {} does not read: {why}", self.topic()),
        }
    }

    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let mut headers = self.0.headers.iter();
        let (_, value) = headers.find(|(known, _)| *known == name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// Its stable id, by which consumers know a repetition.
    #[must_use]
    pub fn message_id(&self) -> String {
        self.header("message-id").unwrap_or_default()
    }
}

/// All that was sent.
#[derive(Debug, Default)]
pub(super) struct Messages(Mutex<Vec<SentMessage>>);

impl Messages {
    pub(super) fn all(&self) -> Vec<SentMessage> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SentMessage>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Publisher for Messages {
    fn publish(&self, message: &Message, ticket: Ticket) -> Result<(), Rejected> {
        let mut sent = self.lock();
        sent.push(SentMessage(message.clone()));
        let offset = i64::try_from(sent.len()).unwrap_or(i64::MAX) - 1;
        drop(sent);
        ticket
            .sink
            .settle(ticket.index, Outcome::Delivered { partition: 0, offset });
        Ok(())
    }

    fn capacity(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }

    fn check_topic<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<TopicInfo, TopicError>> {
        let info = TopicInfo {
            partitions: 1,
            max_message_bytes: None,
        };
        std::future::ready(Ok(info)).boxed()
    }

    fn shutdown(&self, _: Duration) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }
}
