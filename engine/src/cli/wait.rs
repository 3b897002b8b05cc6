//! Waiting for the end of a run, with a progress bar when stderr is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Changed, Exit, Failure, Outcome};
use crate::inspect::Document;
use crate::postgres::{Inspector, Progress};

const POLL: Duration = Duration::from_millis(200);
/// A server that restarts is waited for; one that stays away is not.
const OUTAGE: Duration = Duration::from_secs(60);

/// How a run ended, or where it was when we stopped waiting.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Ended {
    pub(super) status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    pub(super) planned: i64,
    pub(super) delivered: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Document>,
    #[serde(skip)]
    left: Option<Left>,
}

/// Why we stopped waiting before the end.
#[derive(Debug, Clone, Copy)]
enum Left {
    Timeout,
    Interrupted,
}

impl Ended {
    /// With what it returned, as far as that can be read: how it ended is known without.
    pub(super) async fn with_output(mut self, inspector: &Inspector, run: Uuid) -> Self {
        if self.status == "completed" {
            match inspector.values_of_run(run).await {
                Ok(values) => self.output = values.and_then(|values| values.output),
                Err(error) => eprintln!("what run {run} returned cannot be read: {error}"),
            }
        }
        self
    }

    pub(super) fn outcome(self, run: Uuid) -> Outcome {
        let failed = |what: String| Failure::new(Exit::Failed, what).changed(Changed::Said);
        match (self.left, self.status.as_str()) {
            (Some(Left::Timeout), status) => Err(failed(format!(
                "the time is over and run {run} is {status}; it goes on"
            ))
            .hint(format!("see `runs why {run}`"))),
            (Some(Left::Interrupted), status) => {
                eprintln!("no longer waiting; run {run} is {status} and goes on");
                Ok(Exit::Interrupted)
            }
            (None, "completed") => Ok(Exit::Ok),
            (None, status) => {
                let because = self.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
                Err(failed(format!("run {run} {status}{because}")).hint(format!("see `runs show {run}`")))
            }
        }
    }
}

/// From now on an interruption ends the wait and not the process; it is not lost when it comes while nobody listens.
pub(super) fn interruptions() -> Result<Signal, Failure> {
    signal(SignalKind::interrupt())
        .map_err(|error| Failure::new(Exit::Failed, format!("signals cannot be listened for: {error}")))
}

/// Waits until the run is over, the time is over, or somebody interrupts.
pub(super) async fn wait_for_end(
    inspector: &Inspector,
    run: Uuid,
    timeout: Option<Duration>,
    mut interruptions: Signal,
) -> Result<Ended, Failure> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let bar = bar();
    let mut answered = Instant::now();
    let mut last = None;
    loop {
        match inspector.progress_of_run(run).await {
            Ok(Some(progress)) => {
                answered = Instant::now();
                draw(&bar, &progress);
                // One that is set aside goes on only when a person says so.
                if matches!(
                    progress.status.as_str(),
                    "completed" | "failed" | "cancelled" | "quarantined"
                ) {
                    bar.finish_and_clear();
                    return Ok(ended(progress, None));
                }
                last = Some(progress);
            }
            Ok(None) => return Err(Failure::unknown_run(run)),
            Err(error) if answered.elapsed() > OUTAGE || !error.is_unanswered() => {
                return Err(Failure::from(error).changed(Changed::Said));
            }
            Err(error) => bar.set_message(format!("waiting for Postgres: {error}")),
        }
        let left = tokio::select! {
            () = tokio::time::sleep(POLL) => None,
            () = until(deadline) => Some(Left::Timeout),
            _ = interruptions.recv() => Some(Left::Interrupted),
        };
        if let Some(left) = left {
            bar.finish_and_clear();
            return last
                .map(|progress| ended(progress, Some(left)))
                .ok_or_else(|| Failure::new(Exit::Unreachable, format!("nothing was learnt of run {run}")));
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn ended(progress: Progress, left: Option<Left>) -> Ended {
    Ended {
        status: progress.status,
        reason: progress.reason,
        planned: progress.planned,
        delivered: progress.delivered,
        output: None,
        left,
    }
}

/// Draws on stderr, and nothing at all when that is no terminal.
fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{msg:10} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}") {
        bar.set_style(style);
    }
    bar
}

fn draw(bar: &ProgressBar, progress: &Progress) {
    let number = |number: i64| u64::try_from(number).unwrap_or(0);
    bar.set_message(if progress.planned_whole {
        progress.status.clone()
    } else {
        format!("{} (planning)", progress.status)
    });
    bar.set_length(number(progress.planned));
    bar.set_position(number(progress.done));
}
