//! Bounds and times of the orchestrator.

use std::time::Duration;

/// Bounds and times; the defaults are those of the configuration.
#[derive(Debug, Clone)]
pub struct DirectSettings {
    /// Commands that wait to be sent. A full queue sends those that come to the table.
    pub queue: usize,
    /// Commands that wait to be stored. A full one beside a full queue turns commands away.
    pub spill: usize,
    /// Bytes that the commands in both queues may take, about; beyond them commands are turned away too.
    pub memory: usize,
    /// Messages sent whose outcome is not known; with both queues the bound of what a kill can lose.
    pub window: usize,
    /// How long a message may go without an answer before it is stored.
    pub patience: Duration,
    /// How long the publisher may still send a message that it was given.
    pub message_timeout: Duration,
    /// When redelivery first tries what could not be sent.
    pub first_delay: Duration,
}

impl Default for DirectSettings {
    fn default() -> Self {
        Self {
            queue: 65_536,
            spill: 65_536,
            memory: 256 << 20,
            window: 8_192,
            patience: Duration::from_secs(2),
            message_timeout: Duration::from_secs(30),
            first_delay: Duration::from_secs(5),
        }
    }
}

impl DirectSettings {
    /// When a message that may still be under way is sent from the table: not before the publisher has given it up.
    pub(super) fn unconfirmed_delay(&self) -> Duration {
        self.message_timeout + Duration::from_secs(1)
    }
}
