//! A run to be started in a test.

use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::engine::TestEngine;
use super::handle::TestHandle;
use crate::memory::RunStart;
use crate::workflow::Workflow;

/// A run that starts when this is awaited.
#[must_use = "nothing is started before it is awaited"]
pub struct TestStart<W> {
    engine: TestEngine,
    start: RunStart,
    /// It starts no earlier than so long after it is started.
    delay: Option<Duration>,
    workflow: PhantomData<fn() -> W>,
}

impl<W: Workflow> TestStart<W> {
    pub(super) fn new(engine: TestEngine, input: &W::Input) -> Self
    where
        W::Input: Serialize,
    {
        let mut start = RunStart::new(W::NAME);
        start.request.id = engine.world.next_run_id();
        start.request.params = match serde_json::to_vec(input) {
            Ok(params) => params,
            Err(why) => panic!("the input of workflow {} is not JSON: {why}", W::NAME),
        };
        Self {
            engine,
            start,
            delay: None,
            workflow: PhantomData,
        }
    }

    /// Makes a repeat find this run instead of starting another.
    pub fn key(mut self, idempotency_key: impl Into<String>) -> Self {
        self.start.request.idempotency_key = Some(idempotency_key.into());
        self
    }

    /// Allows one unfinished run with this key.
    pub fn singleton(mut self, key: impl Into<String>) -> Self {
        self.start.request.singleton_key = Some(key.into());
        self
    }

    /// Starts it no earlier.
    pub fn at(mut self, time: DateTime<Utc>) -> Self {
        self.start.request.start_at = Some(time);
        self
    }

    /// Has it claimed from this queue.
    pub fn queue(mut self, name: impl Into<String>) -> Self {
        self.start.queue = Some(name.into());
        self
    }

    /// Claims it before runs of lower priority that came up to 15 seconds a step earlier; from 0, the ordinary one, to 20.
    pub fn priority(mut self, priority: u8) -> Self {
        self.start.priority = priority;
        self
    }

    /// Says on whose behalf it runs: in a fair queue tenants take turns.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.start.tenant = Some(tenant.into());
        self
    }

    /// Counts it for the limits of its queue that hold for each key.
    pub fn limit_key(mut self, key: impl Into<String>) -> Self {
        self.start.limit_key = Some(key.into());
        self
    }

    /// Starts it after this delay by the clock of the test, unless another start under the same key comes before: then the one
    /// run that is queued gets that one's input, and waits anew. The handle is then that run's.
    pub fn debounce(mut self, key: impl Into<String>, delay: Duration) -> Self {
        self.start.debounce_key = Some(key.into());
        self.delay = Some(delay);
        self
    }

    /// Gives it an attribute by which it is found: a string, a number or a boolean.
    pub fn attribute(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.start.attributes.insert(name.to_owned(), value.into());
        self
    }

    /// Fails it when it is not over this long after its start.
    pub fn deadline(mut self, time: Duration) -> Self {
        self.start.request.deadline = Some(time);
        self
    }

    /// Makes it the run of a schedule's slot.
    pub fn slot(mut self, schedule: impl Into<String>, slot: DateTime<Utc>) -> Self {
        self.start.request.slot = Some((schedule.into(), slot));
        self
    }
}

impl<W: Workflow> IntoFuture for TestStart<W> {
    type Output = TestHandle<W::Output>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// # Panics
    /// It cannot be started.
    fn into_future(mut self) -> Self::IntoFuture {
        Box::pin(async move {
            let world = &self.engine.world;
            let delayed = self.delay.map(|delay| self.engine.now() + delay);
            self.start.request.start_at = self.start.request.start_at.max(delayed);
            // So that it runs though nobody waits for it yet.
            world.living();
            let run = match world.store.start_run(self.start) {
                Ok(Some(run)) => run,
                Ok(None) => panic!("another unfinished run of {} holds the singleton key", W::NAME),
                Err(why) => panic!("a run of {} cannot be started: {why}", W::NAME),
            };
            world.clock.nudge();
            TestHandle::new(self.engine.clone(), run)
        })
    }
}
