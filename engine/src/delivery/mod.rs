//! Delivery: messages, their outcomes, the breaker and redelivery.

mod command;
mod email;
mod publisher;

pub use command::{Command, message_id};
pub use email::{EMAIL, EmailTriggerCommand, InvalidCommand};
pub use publisher::{
    Failure, Message, Outcome, OutcomeSink, Publisher, Record, Rejected, Ticket, TopicError, TopicInfo, TopicReader,
};
