//! Delivery: messages, their outcomes, the breaker and redelivery.

mod breaker;
mod breakers;
mod command;
mod direct;
mod email;
mod flights;
mod headers;
mod in_flight;
mod key_hash;
mod outbox;
mod page;
mod publisher;
mod redelivery;
mod retry;
mod sending;
mod undelivered;

pub use breaker::{
    Admission, Breaker, BreakerPolicy, BreakerReport, BreakerState, Observation, Probe, ProbeEnd, Reason,
};
pub use breakers::Breakers;
pub(crate) use command::is_topic_name;
pub use command::{Command, CommandKind, InvalidCommand, fresh_correlation_id, message_id};
pub use direct::{Direct, ReadyCommand, Topics, keyed_id};
pub use email::{EMAIL, EmailTriggerCommand, LARGEST_EMAIL};
pub use headers::Headers;
pub(crate) use in_flight::InFlight;
pub use key_hash::KeyHash;
pub use outbox::{
    DueRoute, LaneClaim, OutboxParts, OutboxRelay, OutboxRow, OutboxSettings, OutboxStore, PageAsk, Place, RefusedRow,
    SettledPage, Settling,
};
pub use publisher::{
    Failure, Message, Outcome, OutcomeSink, Publisher, PublisherEvents, Record, Rejected, Ticket, TopicError,
    TopicInfo, TopicReader, TopicTrouble,
};
pub use redelivery::{RedeliveryLoop, RedeliveryParts, RedeliverySettings};
pub use undelivered::{PageRequest, RowClaim, SettledRow, Settlement, UndeliveredRow, UndeliveredStore};
