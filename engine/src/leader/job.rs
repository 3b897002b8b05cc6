//! One periodic job of the leader.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use futures::FutureExt;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use crate::lifecycle::FleetError;
use crate::telemetry::catalogue::{DONE, JOB, JOB_TURN, TERM};
use crate::telemetry::closed::{Closed, JobEnd, LeaderJob};
use crate::telemetry::{Spanned, TraceContext, Troubled, meters};

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
    /// How long from the start of the last turn to the next one.
    fn every(&self) -> Duration;
    /// Ends when somebody says that there is something to do before that.
    async fn rung(&self) {
        std::future::pending().await
    }
    /// Does it once and answers how many things that came to. Between statements it looks whether the reign is over, and
    /// then stops.
    async fn run_once(&self, reign: &Reign) -> Result<u64, FleetError>;
}

/// Repeats a job until the reign is over. Nothing a job does ends the repetition.
pub(super) async fn repeat(job: Arc<dyn Job>, reign: Reign) {
    let (mut next, mut failing) = (tokio::time::Instant::now(), false);
    loop {
        tokio::select! {
            biased;
            () = reign.over.cancelled() => return,
            () = sleep_until(next) => {}
            () = job.rung() => {}
        }
        let started = tokio::time::Instant::now();
        let begin = (Instant::now(), SystemTime::now());
        let outcome = AssertUnwindSafe(job.run_once(&reign)).catch_unwind().await;
        let turn = match &outcome {
            Ok(Ok(did)) => Ok(*did),
            Ok(Err(error)) => Err(error.trouble().text()),
            Err(_) => Err("panicked"),
        };
        tell(job.name(), reign.term, begin, turn);
        let failure = match outcome {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("it panicked; the panic's message is above".to_owned()),
        };
        report(job.name(), reign.term, failure.as_deref(), &mut failing);
        next = started + job.every();
    }
}

/// Measures a turn. A span is made of one that did something or failed.
fn tell(job: &str, term: i64, (began, begin): (Instant, SystemTime), turn: Result<u64, &'static str>) {
    let Some(named) = LeaderJob::named(job) else {
        return;
    };
    let end = if turn.is_ok() { JobEnd::Done } else { JobEnd::Failed };
    meters().job_turned(named, end, began.elapsed());
    if turn == Ok(0) {
        return;
    }
    let mut span = Spanned::begin(&JOB_TURN, named.text(), TraceContext::root(), None);
    span.since(begin);
    span.set(&JOB, named.text());
    span.set(&TERM, term);
    match turn {
        Ok(did) => span.set(&DONE, i64::try_from(did).unwrap_or(i64::MAX)),
        Err(why) => span.failed(why),
    }
    span.end();
}

/// One line when a job begins to fail and one when it works again, however often it is tried in between.
fn report(job: &str, term: i64, failure: Option<&str>, failing: &mut bool) {
    match failure {
        Some(error) if !*failing => {
            tracing::warn!(name: "job_failing", job, term, error, "a job of the leader fails; it is tried again");
        }
        Some(error) => tracing::debug!(job, term, error, "a job of the leader failed again"),
        None if *failing => tracing::info!(name: "job_works_again", job, term, "a job of the leader works again"),
        None => {}
    }
    *failing = failure.is_some();
}
