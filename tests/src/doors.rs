//! A door for commands that answers as a test says.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use lockgate::delivery::{CommandDoor, HandedOver, ReadyCommand};
use tokio::sync::Semaphore;

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
