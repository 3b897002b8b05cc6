//! Telling of what was done in SQL: starts that no process counted, and ends of runs whose code nobody was running.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{Job, MeasureStore, Reign, Untold};
use crate::lifecycle::FleetError;
use crate::telemetry::closed::{Closed as _, RunEnd, StartedBy};
use crate::telemetry::{RunOver, RunTrace, meters};

/// Rows taken at once.
const PAGE: usize = 500;
/// One turn in so many begins at the beginning: a transaction that was long under way writes before what was taken. The
/// others begin where the last one ended, for behind an old snapshot what was taken is still walked over.
const WHOLE: u32 = 10;

/// Tells of what was done in SQL. Needs no fence: who takes a row tells of it, and nobody else does.
pub struct TellUntold {
    store: Arc<dyn MeasureStore>,
    every: Duration,
    reached: Mutex<Reached>,
}

/// What was taken last, and how many turns ago all was looked through.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Reached {
    place: i64,
    turns: u32,
}

impl Reached {
    /// Where the next turn begins.
    fn turn(&mut self) -> i64 {
        if self.turns == 0 {
            self.place = 0;
        }
        self.turns = (self.turns + 1) % WHOLE;
        self.place
    }
}

impl TellUntold {
    /// A look each `every`.
    #[must_use]
    pub fn new(store: Arc<dyn MeasureStore>, every: Duration) -> Self {
        Self {
            store,
            every,
            reached: Mutex::default(),
        }
    }
}

impl TellUntold {
    fn reached(&self) -> MutexGuard<'_, Reached> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Job for TellUntold {
    fn name(&self) -> &'static str {
        "telling"
    }

    fn every(&self) -> Duration {
        self.every
    }

    async fn run_once(&self, reign: &Reign) -> Result<u64, FleetError> {
        let mut told = 0;
        let mut after = self.reached().turn();
        loop {
            let page = self.store.take_untold(after, PAGE as i64).await?;
            page.iter().for_each(tell);
            told += page.len();
            after = page.iter().map(|untold| untold.place).fold(after, i64::max);
            self.reached().place = after;
            if page.len() < PAGE || reign.over.is_cancelled() {
                return Ok(told as u64);
            }
        }
    }
}

fn tell(untold: &Untold) {
    let meter = meters().workflow(&untold.workflow);
    if let Some(by) = &untold.started_by {
        if let Some(by) = StartedBy::named(by) {
            meter.runs_started(by, 1);
        }
        return;
    }
    let Some(end) = untold.ended_as.as_deref().and_then(RunEnd::named) else {
        return;
    };
    meter.run_ended(end, untold.took);
    // Resumed or ended otherwise since it was set aside, it has its span from who tells of that.
    if !untold.stands {
        return;
    }
    let over = RunOver {
        id: untold.run,
        workflow: &untold.workflow,
        queue: &untold.queue,
        slot: untold.slot,
        token: untold.token,
        attempts: untold.attempts,
        trace: RunTrace::of(untold.run, untold.traceparent.as_deref()),
        end,
        took: untold.took,
        since: untold.since,
        goes_on_as: None,
    };
    over.tell();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio_util::sync::CancellationToken;
    use uuid::Uuid;

    use super::*;
    use crate::leader::FleetGauge;

    /// Full pages, each followed by one row; remembers where it was asked.
    #[derive(Default)]
    struct Pages(Mutex<Vec<i64>>);

    fn row(place: i64) -> Untold {
        Untold {
            place,
            run: Uuid::now_v7(),
            workflow: "mails".to_owned(),
            queue: "mails".to_owned(),
            slot: None,
            started_by: Some("sql".to_owned()),
            ended_as: None,
            stands: false,
            token: 0,
            attempts: 0,
            traceparent: None,
            took: Duration::ZERO,
            since: Duration::ZERO,
        }
    }

    #[async_trait]
    impl MeasureStore for Pages {
        async fn measure_fleet(&self) -> Result<Vec<FleetGauge>, FleetError> {
            Ok(Vec::new())
        }
        async fn measure_trouble(&self) -> Result<Vec<FleetGauge>, FleetError> {
            Ok(Vec::new())
        }
        async fn take_untold(&self, after: i64, page: i64) -> Result<Vec<Untold>, FleetError> {
            let mut asked = self.0.lock().unwrap();
            asked.push(after);
            let rows = if asked.len() % 2 == 1 { page } else { 1 };
            // As they are deleted, in no order.
            Ok((1..=rows).rev().map(|row_of| row(after + row_of)).collect())
        }
    }

    #[tokio::test]
    async fn what_was_taken_is_not_walked_over_again_but_for_one_turn_in_ten() {
        let store = Arc::new(Pages::default());
        let job = TellUntold::new(store.clone(), Duration::from_secs(10));
        let reign = Reign {
            term: 1,
            over: CancellationToken::new(),
        };
        for _ in 0..11 {
            assert_eq!(job.run_once(&reign).await.unwrap(), PAGE as u64 + 1);
        }
        let asked = store.0.lock().unwrap().clone();
        let (page, turn) = (PAGE as i64, PAGE as i64 + 1);
        let expected = (0..11).flat_map(|number| [number % 10 * turn, number % 10 * turn + page]);
        assert_eq!(asked, expected.collect::<Vec<_>>());
    }
}
