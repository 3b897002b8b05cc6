//! Doors for commands: one that answers as a test says, and one straight to the brokers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lockgate::delivery::{CommandDoor, HandedOver, Outcome, OutcomeSink, Publisher, ReadyCommand, Rejected, Ticket};
use lockgate::kafka::{KafkaConfig, KafkaPublisher};
use tokio::sync::{OnceCell, Semaphore, oneshot};

use crate::replica::PATIENCE;
use crate::wait_until;

type Script = dyn Fn(&ReadyCommand) -> HandedOver + Send + Sync;

/// Answers as told, and only while it is open.
pub struct ScriptedDoor {
    script: Box<Script>,
    open: Semaphore,
    waiting: Mutex<usize>,
    seen: Mutex<Vec<ReadyCommand>>,
}

impl ScriptedDoor {
    /// A door that is open.
    #[must_use]
    pub fn new(script: impl Fn(&ReadyCommand) -> HandedOver + Send + Sync + 'static) -> Arc<Self> {
        let door = Self::closed(script);
        door.open();
        door
    }

    /// A door that answers nobody until it is opened.
    #[must_use]
    pub fn closed(script: impl Fn(&ReadyCommand) -> HandedOver + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            script: Box::new(script),
            open: Semaphore::new(0),
            waiting: Mutex::default(),
            seen: Mutex::default(),
        })
    }

    /// Lets everybody through from now on.
    pub fn open(&self) {
        self.open.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    /// Waits until so many wait for it to open.
    pub async fn awaited_by(&self, callers: usize) {
        wait_until(PATIENCE, "callers wait at the door", async || {
            *self.waiting.lock().unwrap() == callers
        })
        .await;
    }

    /// All that was handed over, in order.
    #[must_use]
    pub fn seen(&self) -> Vec<ReadyCommand> {
        self.seen.lock().unwrap().clone()
    }
}

#[async_trait]
impl CommandDoor for ScriptedDoor {
    async fn hand_over(&self, commands: Vec<ReadyCommand>) -> Vec<HandedOver> {
        *self.waiting.lock().unwrap() += 1;
        let open = self.open.acquire().await.unwrap();
        *self.waiting.lock().unwrap() -= 1;
        drop(open);
        let outcomes = commands.iter().map(|command| (self.script)(command)).collect();
        self.seen.lock().unwrap().extend(commands);
        outcomes
    }
}

/// Publishes to the brokers of `KAFKA_BROKERS`; what they do not acknowledge is not accepted.
#[derive(Default)]
pub struct KafkaDoor(OnceCell<KafkaPublisher>);

#[async_trait]
impl CommandDoor for KafkaDoor {
    async fn hand_over(&self, commands: Vec<ReadyCommand>) -> Vec<HandedOver> {
        let publisher = self.0.get_or_init(async || {
            let mut config = KafkaConfig::new(std::env::var("KAFKA_BROKERS").unwrap());
            config.message_timeout = Duration::from_millis(1500);
            KafkaPublisher::start(config, Arc::new(())).unwrap()
        });
        let publisher = publisher.await;
        let mut outcomes = Vec::new();
        for command in commands {
            let (tell, told) = oneshot::channel();
            let sink = Arc::new(One(Mutex::new(Some(tell))));
            loop {
                let ticket = Ticket {
                    sink: sink.clone(),
                    index: 0,
                };
                match publisher.publish(&command.message, ticket) {
                    Err(Rejected::Full) => publisher.capacity().await,
                    _ => break,
                }
            }
            // A rejected ticket is dropped, and its sender with it.
            drop(sink);
            outcomes.push(told);
        }
        let mut answers = Vec::new();
        for told in outcomes {
            answers.push(match told.await {
                Ok(Outcome::Delivered { partition, offset }) => HandedOver::Delivered { partition, offset },
                _ => HandedOver::NotAccepted,
            });
        }
        answers
    }
}

struct One(Mutex<Option<oneshot::Sender<Outcome>>>);

impl OutcomeSink for One {
    fn settle(&self, _index: u32, outcome: Outcome) {
        if let Some(tell) = self.0.lock().unwrap().take() {
            let _ = tell.send(outcome);
        }
    }
}
