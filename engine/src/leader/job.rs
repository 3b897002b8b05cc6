//! One periodic job of the leader.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::lifecycle::FleetError;

/// A term while it is believed in.
#[derive(Debug, Clone)]
pub struct Reign {
    /// The term.
    pub term: i64,
    /// Cancelled before the lease could be somebody else's.
    pub over: CancellationToken,
}

/// What the leader does again and again.
#[async_trait]
pub trait Job: Send + Sync + 'static {
    /// Its name in logs.
    fn name(&self) -> &'static str;
    /// How long from one start to the next.
    fn every(&self) -> Duration;
    /// Does it once. Between statements it looks whether the reign is over, and then stops.
    async fn run_once(&self, reign: &Reign) -> Result<(), FleetError>;
}

/// Repeats a job until the reign is over. Nothing a job does ends the repetition.
pub(super) async fn repeat(job: Arc<dyn Job>, reign: Reign) {
    let mut timer = interval(job.every());
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            biased;
            () = reign.over.cancelled() => return,
            _ = timer.tick() => {}
        }
        let outcome = AssertUnwindSafe(job.run_once(&reign)).catch_unwind().await;
        let failure = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("it panicked; the panic's message is above".to_owned()),
        };
        report(job.name(), reign.term, failure.as_deref(), &mut failing);
    }
}

/// One line when a job begins to fail and one when it works again, however often it is tried in between.
fn report(job: &str, term: i64, failure: Option<&str>, failing: &mut bool) {
    match failure {
        Some(error) if !*failing => tracing::warn!(job, term, error, "leader job {job} failed; it is tried again"),
        Some(error) => tracing::debug!(job, term, error, "leader job {job} failed again"),
        None if *failing => tracing::info!(job, term, "leader job {job} works again"),
        None => {}
    }
    *failing = failure.is_some();
}
