//! Lets a suspect batch run with no other beside it: if the process dies then, only that batch can be to blame.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Where batches run: many together, or one alone.
#[derive(Debug, Default)]
pub(crate) struct Floor {
    lock: RwLock<()>,
    wanted: AtomicBool,
}

/// The right to run alone, as long as it lives.
pub(crate) struct Alone<'a> {
    floor: &'a Floor,
    _lock: RwLockWriteGuard<'a, ()>,
}

impl Floor {
    /// Waits while a batch wants to run, or runs, alone. Held from claim to end.
    pub(crate) async fn share(&self) -> RwLockReadGuard<'_, ()> {
        self.lock.read().await
    }

    /// Whether somebody waits for the others to end: they claim nothing more.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// Waits until the others have ended; `None`: not within that time, or another one waits already.
    pub(crate) async fn alone(&self, within: Duration) -> Option<Alone<'_>> {
        if self.wanted.swap(true, Ordering::AcqRel) {
            return None;
        }
        match tokio::time::timeout(within, self.lock.write()).await {
            Ok(lock) => Some(Alone {
                floor: self,
                _lock: lock,
            }),
            Err(_) => {
                self.wanted.store(false, Ordering::Release);
                None
            }
        }
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.floor.wanted.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn one_alone_waits_for_the_others_and_keeps_new_ones_out() {
        let floor = Floor::default();
        let shares = floor.share().await;
        assert!(floor.alone(SOON).await.is_none(), "not while another runs");
        assert!(!floor.is_wanted(), "a wait in vain is over");
        drop(shares);
        let alone = floor.alone(LONG).await;
        assert!(alone.is_some() && floor.is_wanted());
        assert!(
            floor.alone(LONG).await.is_none(),
            "two cannot be alone, and do not wait for each other"
        );
        assert!(tokio::time::timeout(SOON, floor.share()).await.is_err());
        drop(alone);
        assert!(!floor.is_wanted());
        drop(floor.share().await);
    }
}
