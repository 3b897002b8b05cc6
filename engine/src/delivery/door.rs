//! The seam through which commands come whose bytes are made already, many at once, by those who wait for their fate.

use std::sync::Arc;

use async_trait::async_trait;

use super::breakers::Breakers;
use super::direct::ReadyCommand;

/// What became of a command that was handed over and waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandedOver {
    /// The broker acknowledged it.
    Delivered {
        /// The partition it is in.
        partition: i32,
        /// Its offset there.
        offset: i64,
    },
    /// Its row is committed: it is sent from there.
    Stored,
    /// Its row is committed, but the brokers do not take it as it is: a person must look.
    Refused,
    /// Nothing becomes of it: there was no room.
    NotAccepted,
    /// Neither sent nor stored, as far as is known in time. It is still being tried: hand it over again only under the
    /// same `message-id`.
    Unsettled,
}

/// Takes commands and says what became of each.
#[async_trait]
pub trait CommandDoor: Send + Sync {
    /// Answers in the order of the commands, once each of them is safe or was given up, within a bounded time.
    async fn hand_over(&self, commands: Vec<ReadyCommand>) -> Vec<HandedOver>;

    /// What it goes by when it sends, so that the row of its replica shows which topics it does not send to.
    fn breakers(&self) -> Option<Arc<Breakers>> {
        None
    }
}
