//! Delivery: messages, their outcomes, the breaker and redelivery.

mod breaker;
mod breakers;
mod command;
mod direct;
mod door;
mod email;
mod email_request;
mod fallback;
mod flights;
mod headers;
mod in_flight;
mod inbox;
mod keeper;
mod key_hash;
mod orchestrator;
mod outbox;
mod page;
mod page_span;
mod publisher;
mod queued;
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
pub use door::{CommandDoor, HandedOver};
pub use email::{EMAIL, EMAIL_SCHEMA, EmailTriggerCommand, LARGEST_EMAIL, email_schema};
pub use email_request::{EmailCommandRequest, InvalidRequest};
pub use fallback::{ConfirmedRow, Due, FallbackError, FallbackRow, FallbackStore};
pub use headers::Headers;
pub(crate) use in_flight::InFlight;
pub use inbox::{
    InboundPage, Inflow, InflowEnded, PageEnd, Rejection, Settler, TakeError, Taken, consume, identify, traceparent_of,
};
pub use key_hash::KeyHash;
pub(crate) use orchestrator::OwnRuntime;
pub use orchestrator::{
    DirectSettings, DirectStats, Fate, Handover, Notice, NotificationOrchestrator, OrchestratorParts, OutcomeHandler,
    Stopped, Waited,
};
pub use outbox::{
    DueRoute, DueRoutes, LaneClaim, OutboxParts, OutboxRelay, OutboxRow, OutboxSettings, OutboxStore, PageAsk, Place,
    RefusedRow, SettledPage, Settling,
};
pub use publisher::{
    Failure, Message, Outcome, OutcomeSink, Publisher, PublisherEvents, Record, Rejected, Ticket, TopicError,
    TopicInfo, TopicReader, TopicTrouble,
};
pub use redelivery::{RedeliveryLoop, RedeliveryParts, RedeliverySettings};
pub use undelivered::{PageRequest, RowClaim, SettledRow, Settlement, UndeliveredRow, UndeliveredStore};
