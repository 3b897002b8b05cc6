//! Loops that nobody would miss who looks from outside: a replica whose leases are renewed is live without them.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;

/// Before a loop begins again that panicked: what it met may still be there.
const PAUSE: Duration = Duration::from_secs(1);

/// Begins a loop again that panics, until it ends by itself. What it held meanwhile was dropped with it.
pub(crate) async fn going_on<T, F>(name: &'static str, mut begin: impl FnMut() -> F) -> T
where
    F: Future<Output = T>,
{
    loop {
        match AssertUnwindSafe(async { begin().await }).catch_unwind().await {
            Ok(ended) => return ended,
            Err(_) => {
                tracing::error!(name: "loop_broken", kind = name, "a loop of the replica panicked, which is a defect; it begins again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_panics_begins_again_until_it_ends_by_itself() {
        let turns = AtomicU32::new(0);
        let ended = going_on("test", || async {
            let turn = turns.fetch_add(1, Ordering::Relaxed);
            assert!(turn > 1, "as it was told");
            turn
        });
        assert_eq!(ended.await, 2);
    }
}
