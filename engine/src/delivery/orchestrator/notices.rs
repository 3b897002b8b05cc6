//! What a service may want to hear of its commands, on a thread of its own: a handler that is slow, or blocks for ever,
//! holds up nothing but itself.

use std::borrow::Cow;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use uuid::Uuid;

use super::counters::{Counters, add};

/// Notices that wait for the handler. More are dropped and counted; the commands are not touched by that.
const WAITING: usize = 4_096;

/// The fate of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The broker acknowledged it.
    Delivered {
        /// The partition it is in.
        partition: i32,
        /// Its offset there.
        offset: i64,
    },
    /// Its row is committed.
    Stored {
        /// Why, from a closed set.
        code: &'static str,
        /// It can never go as it is, so it is not sent by itself.
        refused: bool,
    },
}

/// What became of a command. Holds nothing of its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Kind of command.
    pub command_type: Cow<'static, str>,
    /// Stable id of its message.
    pub message_id: Uuid,
    /// Its fate.
    pub fate: Fate,
}

/// Told what became of commands, one after the other.
pub trait OutcomeHandler: Send + Sync + 'static {
    /// Takes a notice. May block: meanwhile notices wait, and are dropped when too many do.
    fn handle(&self, notice: Notice);
}

/// The way to the handler, if there is one.
#[derive(Debug, Default)]
pub(super) struct Notices(Option<SyncSender<Notice>>);

impl Notices {
    pub(super) fn start(handler: Option<Arc<dyn OutcomeHandler>>) -> io::Result<Self> {
        let Some(handler) = handler else {
            return Ok(Self(None));
        };
        let (sender, receiver) = sync_channel(WAITING);
        std::thread::Builder::new()
            .name("lockgate-direct-notices".to_owned())
            .spawn(move || tell(&receiver, &*handler))?;
        Ok(Self(Some(sender)))
    }

    /// Leaves a notice if there is room; never waits.
    pub(super) fn leave(&self, counters: &Counters, notice: impl FnOnce() -> Notice) {
        let Some(sender) = &self.0 else {
            return;
        };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = sender.try_send(notice()) {
            add(&counters.notices_dropped, 1);
        }
    }
}

fn tell(receiver: &Receiver<Notice>, handler: &dyn OutcomeHandler) {
    while let Ok(notice) = receiver.recv() {
        let message_id = notice.message_id;
        if catch_unwind(AssertUnwindSafe(|| handler.handle(notice))).is_err() {
            tracing::error!(name: "direct_handler_panicked", %message_id, "the handler of outcomes panicked");
        }
    }
}
