//! A handler of outcomes that blocks, for tests of what it holds up: nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};

use lockgate::delivery::{Notice, OutcomeHandler};

use crate::replica::PATIENCE;
use crate::wait_until;

/// Blocks until the test is over.
#[derive(Default)]
pub struct Blocked {
    entered: AtomicBool,
    over: (Mutex<bool>, Condvar),
}

impl Blocked {
    /// Waits until it was told of something and blocks.
    pub async fn blocks(&self) {
        wait_until(PATIENCE, "the handler blocks", async || {
            self.entered.load(Ordering::SeqCst)
        })
        .await;
    }

    /// Lets it go.
    ///
    /// # Panics
    /// It panicked.
    pub fn release(&self) {
        *self.over.0.lock().unwrap() = true;
        self.over.1.notify_all();
    }
}

impl OutcomeHandler for Blocked {
    fn handle(&self, _notice: Notice) {
        self.entered.store(true, Ordering::SeqCst);
        let guard = self.over.0.lock().unwrap();
        drop(self.over.1.wait_while(guard, |over| !*over).unwrap());
    }
}
