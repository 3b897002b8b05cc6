//! A publisher whose outcomes the test decides, for faults that a real broker does not produce on demand.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use lockgate::delivery::{Failure, Message, Outcome, Publisher, Rejected, Ticket, TopicError, TopicInfo};

/// What becomes of an offer.
pub enum Fate {
    /// Settled at once.
    Settle(Outcome),
    /// Settled when the test asks for it, or never.
    Hold,
    /// Not accepted.
    Reject(Rejected),
}

type Script = Box<dyn Fn(&Message) -> Fate + Send + Sync>;

pub struct Scripted {
    script: Script,
    /// When which topic was offered something.
    pub offers: Mutex<Vec<(Instant, String)>>,
    held: Mutex<Vec<Ticket>>,
}

impl Scripted {
    pub fn new(script: impl Fn(&Message) -> Fate + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            script: Box::new(script),
            offers: Mutex::default(),
            held: Mutex::default(),
        })
    }

    pub fn offered(&self) -> usize {
        self.offers.lock().unwrap().len()
    }

    pub fn holds(&self) -> usize {
        self.held.lock().unwrap().len()
    }

    /// Settles what is held as delivered.
    pub fn let_go(&self) {
        for (offset, ticket) in self.held.lock().unwrap().drain(..).enumerate() {
            ticket.sink.settle(ticket.index, delivered(offset as i64));
        }
    }
}

pub fn delivered(offset: i64) -> Outcome {
    Outcome::Delivered { partition: 0, offset }
}

pub fn unknown() -> Outcome {
    Outcome::Unknown(Failure {
        code: "timed_out",
        detail: "no answer".to_owned(),
    })
}

impl Publisher for Scripted {
    fn publish(&self, message: &Message, ticket: Ticket) -> Result<(), Rejected> {
        let offer = (Instant::now(), message.topic.to_string());
        self.offers.lock().unwrap().push(offer);
        match (self.script)(message) {
            Fate::Settle(outcome) => ticket.sink.settle(ticket.index, outcome),
            Fate::Hold => self.held.lock().unwrap().push(ticket),
            Fate::Reject(rejected) => return Err(rejected),
        }
        Ok(())
    }

    fn capacity(&self) -> BoxFuture<'_, ()> {
        tokio::time::sleep(Duration::from_millis(5)).boxed()
    }

    fn check_topic<'a>(&'a self, _topic: &'a str) -> BoxFuture<'a, Result<TopicInfo, TopicError>> {
        let info = TopicInfo {
            partitions: 1,
            max_message_bytes: None,
        };
        async move { Ok(info) }.boxed()
    }

    fn shutdown(&self, _within: Duration) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}
