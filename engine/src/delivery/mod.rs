//! Delivery: messages, their outcomes, the breaker and redelivery.

mod breaker;
mod breakers;
mod command;
mod email;
mod publisher;

pub use breaker::{
    Admission, Breaker, BreakerPolicy, BreakerReport, BreakerState, Observation, Probe, ProbeEnd, Reason,
};
pub use breakers::Breakers;
pub use command::{Command, message_id};
pub use email::{EMAIL, EmailTriggerCommand, InvalidCommand};
pub use publisher::{
    Failure, Message, Outcome, OutcomeSink, Publisher, PublisherEvents, Record, Rejected, Ticket, TopicError,
    TopicInfo, TopicReader, TopicTrouble,
};
