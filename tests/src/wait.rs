//! Waiting for events instead of sleeping.

use std::time::Duration;

use tokio::time::Instant;

/// Polls a condition until it holds.
///
/// # Panics
/// It does not hold within the deadline; the message says `what` was waited for.
pub async fn wait_until(deadline: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !condition().await {
        assert!(Instant::now() < end, "waited {deadline:?} in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_ends_when_the_condition_holds() {
        let mut polls = 0;
        wait_until(Duration::from_secs(5), "the third poll came", async || {
            polls += 1;
            polls == 3
        })
        .await;
        assert_eq!(polls, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "in vain until pigs fly")]
    async fn waiting_in_vain_says_what_for() {
        wait_until(Duration::from_millis(30), "pigs fly", async || false).await;
    }
}
