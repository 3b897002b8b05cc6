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

    /// Counts it for the limits of its queue that hold for each key.
    pub fn limit_key(mut self, key: impl Into<String>) -> Self {
        self.start.limit_key = Some(key.into());
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
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let world = &self.engine.world;
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
