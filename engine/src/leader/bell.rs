//! What rings whoever leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// What others tell whoever leads; the polls find it anyway.
#[derive(Debug, Clone, Default)]
pub struct LeaderHints {
    /// The leader resigned.
    pub resigned: Arc<Notify>,
    /// A schedule was edited.
    pub schedules: Arc<Bell>,
}

/// Rung by whoever knows of something that a job would find at its next look.
#[derive(Debug, Default)]
pub struct Bell {
    rings: Notify,
    is_heard: AtomicBool,
}

impl Bell {
    /// There is something.
    pub fn ring(&self) {
        self.rings.notify_one();
    }

    /// Whether what others ring comes through from here on. A change is worth a look: what was rung before was not heard, and
    /// who hears nothing more has to look often again.
    pub fn hears(&self, is_heard: bool) {
        if self.is_heard.swap(is_heard, Ordering::Relaxed) != is_heard {
            self.ring();
        }
    }

    /// Whether others can ring: then less is asked while nothing comes.
    pub(super) fn is_heard(&self) -> bool {
        self.is_heard.load(Ordering::Relaxed)
    }

    /// Ends when it is rung, or was since somebody waited for that last.
    pub(super) async fn rung(&self) {
        self.rings.notified().await;
    }
}
