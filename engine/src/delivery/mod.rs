//! Delivery: messages, their outcomes, the breaker and redelivery.

mod publisher;

pub use publisher::{
    Failure, Message, Outcome, OutcomeSink, Publisher, Record, Rejected, Ticket, TopicError, TopicInfo, TopicReader,
};
