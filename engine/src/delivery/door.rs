//! The door through which ready commands are handed over: what is behind it sends them or stores them.

use async_trait::async_trait;

use super::direct::ReadyCommand;

/// Takes commands and answers when the fate of each is known.
#[async_trait]
pub trait CommandDoor: Send + Sync {
    /// Hands commands over; answers one outcome a command, in their order.
    async fn hand_over(&self, commands: Vec<ReadyCommand>) -> Vec<HandedOver>;
}

/// What became of a command that was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandedOver {
    /// The broker acknowledged it.
    Delivered {
        /// The partition it is in.
        partition: i32,
        /// Its offset there.
        offset: i64,
    },
    /// Its row is committed; it is sent later.
    Stored,
    /// Nobody took it: hand it over again later.
    NotAccepted,
}
