//! Hints: one notification wakes who would have looked anyway.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Executor;
use sqlx::postgres::PgListener;
use tokio_util::sync::CancellationToken;

/// The channel of all hints.
const CHANNEL: &str = "lockgate_wake";
/// The hint that there are no hints for a while.
pub const DEAF: &str = "deaf";
/// Before listening again after the connection failed.
const PAUSE: Duration = Duration::from_secs(5);
/// After so long without a word the server is asked whether it is still there: a connection that was cut off says nothing, and
/// listening never sends anything that could fail.
const QUIET: Duration = Duration::from_secs(10);
/// What its answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Calls `hint` with the payload of every notification until told to stop, and with [`DEAF`] when none can come. Give it the
/// direct URL: a transaction pooler does not pass notifications on. Losing them costs time, never work.
pub async fn listen(url: String, hint: Arc<dyn Fn(&str) + Send + Sync>, stop: CancellationToken) {
    let mut warned = false;
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => return,
            ended = listen_once(&url, &hint, &mut warned) => {
                hint(DEAF);
                let why = ended.err().map_or_else(|| "the connection ended".to_owned(), |error| error.to_string());
                // Once at warn until it listens again: polling goes on, and repeating it would only fill the log.
                if warned {
                    tracing::debug!(why, "not listening for hints; polling goes on");
                } else {
                    tracing::warn!(name: "hints_not_heard", why, "not listening for hints; polling goes on");
                }
                warned = true;
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

async fn listen_once(url: &str, hint: &Arc<dyn Fn(&str) + Send + Sync>, warned: &mut bool) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect(url).await?;
    listener.listen(CHANNEL).await?;
    if std::mem::take(warned) {
        tracing::info!(name: "hints_heard_again", "listening for hints again");
    }
    // Whatever was said before we listened: look once.
    hint("run");
    loop {
        match tokio::time::timeout(QUIET, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => hint(notification.payload()),
            Ok(ended) => return ended.map(drop),
            // What is said meanwhile is kept for the next look.
            Err(_) => answers(&mut listener).await?,
        }
    }
}

async fn answers(listener: &mut PgListener) -> Result<(), sqlx::Error> {
    let answer = tokio::time::timeout(ANSWER, listener.execute("select 1")).await;
    let silent = || std::io::Error::new(std::io::ErrorKind::TimedOut, "the server does not answer any more");
    answer.unwrap_or_else(|_| Err(silent().into())).map(drop)
}
