//! What a workflow's code may do.

use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use rand::distr::{Distribution, StandardUniform};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::draw;
use super::fan_out::{FanOutSummary, SourceFanOut};
use super::host::{ContextHost, Done, WaitFor};
use super::path::{Place, misnamed};
use super::resources::Resources;
use super::source::Source;
use super::step::{Action, StepFuture, StepOptions, erase, from_json};
use super::undo::Undo;
use crate::delivery::Command;
use crate::lifecycle::{RunId, TransactionWork, WorkRun};

/// What the record can hold of time, with a wide margin.
const EARLIEST: DateTime<Utc> = DateTime::UNIX_EPOCH;
const LATEST: DateTime<Utc> = match DateTime::from_timestamp_secs(253_402_300_799) {
    Some(last_second_of_9999) => last_second_of_9999,
    None => DateTime::<Utc>::MAX_UTC,
};

/// A run, as its workflow's code sees it. Its steps are recorded: code that is run again from its start, as after the
/// death of a replica, gets from them what they came to, and goes on where the record ends.
///
/// A step is identified by its place: its position in the order of calls, counted when the method is called, and its name.
/// Several steps may be awaited at once, as with `futures::join!`; what is called must not depend on which of them ends
/// first.
#[derive(Clone)]
pub struct Context {
    run: Arc<WorkRun>,
    pub(super) host: Arc<dyn ContextHost>,
    resources: Resources,
    /// The branch: empty for the workflow's own.
    prefix: Arc<str>,
    next_ordinal: Arc<AtomicU32>,
    /// When the last thing happened that the code of the branch knows of, and of those that it is part of.
    now: Vec<Arc<Mutex<DateTime<Utc>>>>,
    /// When the branch was begun, if that was after the join it is of: what it waits counts from there.
    begun: DateTime<Utc>,
}

impl Context {
    pub(crate) fn new(run: Arc<WorkRun>, host: Arc<dyn ContextHost>, resources: Resources) -> Self {
        Self {
            prefix: Arc::from(""),
            now: vec![Arc::new(Mutex::new(run.started_at.unwrap_or(run.claimed_at)))],
            begun: EARLIEST,
            run,
            host,
            resources,
            next_ordinal: Arc::default(),
        }
    }

    /// The run.
    #[must_use]
    pub fn run_id(&self) -> RunId {
        self.run.id
    }

    /// The run whose message ids this one uses: itself, or the first of its chain of retries.
    #[must_use]
    pub fn origin_id(&self) -> RunId {
        self.run.origin_id
    }

    /// The schedule's slot this run stands for.
    #[must_use]
    pub fn slot(&self) -> Option<DateTime<Utc>> {
        self.run.slot
    }

    /// The instant this run is about: its slot, or when it was started. The same in every replay.
    #[must_use]
    pub fn nominal_time(&self) -> DateTime<Utc> {
        self.run.slot.unwrap_or(self.run.created_at)
    }

    /// How many holders in a row died while they ran this run's code.
    #[must_use]
    pub fn attempt(&self) -> u16 {
        self.run.attempts
    }

    /// What the engine was given of a type, such as a pool of connections, for use in steps.
    #[must_use]
    pub fn resource<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.resources.share()
    }

    /// Does something and records what it returned. It is done at least once: a replica that dies between the end of
    /// `action` and its record does it again. A failure is tried again by the default [`super::RetryPolicy`], unless it
    /// is [`super::fatal`]; the last one is recorded as the step's, a [`super::StepError`].
    pub fn step<T, F, Fut, E>(&self, name: &str, action: F) -> StepFuture<T>
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Serialize + DeserializeOwned + 'static,
        E: Into<anyhow::Error>,
    {
        self.step_with(name, StepOptions::default(), action)
    }

    /// The same with something to say about it.
    pub fn step_with<T, F, Fut, E>(&self, name: &str, options: StepOptions, action: F) -> StepFuture<T>
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Serialize + DeserializeOwned + 'static,
        E: Into<anyhow::Error>,
    {
        self.erased_step(name, options, erase(action), |_| None)
    }

    pub(super) fn erased_step<T: DeserializeOwned + 'static>(
        &self,
        name: &str,
        options: StepOptions,
        action: Action,
        undo: impl FnOnce(&str) -> Option<Undo>,
    ) -> StepFuture<T> {
        let place = self.place(name);
        let path = place.to_string();
        if let Some(wrong) = place.misnamed() {
            return refuse(wrong);
        }
        let done = self.host.clone().step(place, options, action, undo(&path));
        self.told(done, move |done| from_json(&path, done.result.as_deref()))
    }

    /// Does something in a transaction of the host's database that also records what it returned: both, or none.
    pub(crate) fn transact<T>(
        &self,
        name: &str,
        options: StepOptions,
        work: TransactionWork,
        undo: Option<Undo>,
    ) -> StepFuture<T>
    where
        T: DeserializeOwned + 'static,
    {
        let place = self.place(name);
        let path = place.to_string();
        if let Some(wrong) = place.misnamed() {
            return refuse(wrong);
        }
        let done = self.host.clone().transact(place, options, work, undo);
        self.told(done, move |done| from_json(&path, done.result.as_deref()))
    }

    /// Waits so long. A run that waits holds nothing: it goes on here or on another replica.
    pub fn sleep(&self, time: Duration) -> StepFuture<()> {
        let time = TimeDelta::from_std(time).unwrap_or(TimeDelta::MAX);
        let since = self.now().max(self.begun);
        self.sleep_until(since.checked_add_signed(time).unwrap_or(DateTime::<Utc>::MAX_UTC))
    }

    /// Waits until then.
    pub fn sleep_until(&self, at: DateTime<Utc>) -> StepFuture<()> {
        let done = self
            .host
            .clone()
            .wait(self.place("sleep"), WaitFor::Instant(recordable(at)));
        self.told(done, |_| Ok(()))
    }

    /// Waits for a signal of this name and takes it; each signal is taken once, in the order of their arrival. `None`
    /// when none came in time; a retry of the run that comes to wait here gives it the whole time once more.
    pub fn wait_signal<T: DeserializeOwned + 'static>(
        &self,
        name: &str,
        timeout: Option<Duration>,
    ) -> StepFuture<Option<T>> {
        let place = self.place(name);
        let path = place.to_string();
        if let Some(wrong) = place.misnamed() {
            return refuse(wrong);
        }
        // Whoever is to answer a retry cannot have known of it before.
        let since = self.now().max(self.begun).max(self.run.repeated_at.unwrap_or(EARLIEST));
        let until = timeout.and_then(|time| since.checked_add_signed(TimeDelta::from_std(time).ok()?));
        let until = until.map(recordable);
        let done = self.host.clone().wait(place, WaitFor::Signal { until });
        self.told(done, move |done| {
            done.result.map(|payload| from_json(&path, Some(&payload))).transpose()
        })
    }

    /// Sends one message for each item of the source, in leased batches on any replica of the fleet, and answers
    /// when every item has its first outcome. `message` makes the command of an item's row; `None` skips the item;
    /// an error stores the item as refused. When the source's ids cannot be read, do not ascend, or come twice, the run fails,
    /// whatever its code makes of that.
    pub fn fan_out<S, M>(&self, source: S, message: M) -> StepFuture<FanOutSummary>
    where
        S: Source,
        M: Fn(&S::Row) -> anyhow::Result<Option<Command>> + Send + Sync + 'static,
    {
        let place = self.place(source.name());
        let path = place.to_string();
        if let Some(wrong) = place.misnamed() {
            return refuse(wrong);
        }
        let fan_out = Arc::new(SourceFanOut { source, message });
        let done = self.host.clone().fan_out(place, fan_out);
        self.told(done, move |done| from_json(&path, done.result.as_deref()))
    }

    /// Goes on in so many branches, each of which counts its own places: what runs in them side by side, as with
    /// `futures::try_join!` or a bounded stream of many, may end in any order, and each goes on where its record ends. What
    /// they wait counts from here, whenever they are first polled; branches of [`Self::join_all`] count from their own begin.
    pub fn branches(&self, count: usize) -> StepFuture<Vec<Self>> {
        let place = self.place("join");
        let now = self.now();
        let branches: Vec<Self> = (0..count)
            .map(|number| self.branch_of_join(&place, number, now, false))
            .collect();
        let joined = self.host.clone().join(place);
        StepFuture::new(async move { joined.await.map(|_| branches) })
    }

    /// A branch of a join that stands at this place, whose code was told that it is this late. One that had to wait for room
    /// is told so too: what has ended since, a replay may come to in another order. But what it waits is written down, so
    /// that may count from the end that made room.
    pub(super) fn branch_of_join(&self, place: &Place, number: usize, now: DateTime<Utc>, waited: bool) -> Self {
        let mut branch = self.branch(place, number);
        branch.begun = self.begun.max(if waited { self.now() } else { EARLIEST });
        branch.now = [self.now.clone(), vec![Arc::new(Mutex::new(now))]].concat();
        branch
    }

    /// One branch of a place, which knows of what happens in it alone.
    pub(super) fn branch(&self, place: &Place, number: usize) -> Self {
        let mut branch = self.clone();
        branch.prefix = place.branch(number).into();
        branch.next_ordinal = Arc::default();
        branch.now = vec![Arc::new(Mutex::new(self.now()))];
        branch
    }

    /// The run is asked to stop, or undoes what it did: what is awaited now ends as [`super::StepError::Cancelled`]. Code
    /// that is run again over its record does not hear so before it has come past that.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.host
            .is_cancelled(&self.prefix, self.next_ordinal.load(Ordering::Relaxed))
    }

    /// Which version of a piece of code this run takes, for code that was changed while runs of it were about: the
    /// newest of the range for a run that comes here for the first time, the oldest for one that was past this place
    /// before the change was known, and for ever the same.
    pub fn version(&self, change: &str, range: RangeInclusive<u32>) -> StepFuture<u32> {
        if let Some(wrong) = misnamed(change) {
            return refuse(wrong);
        }
        let next = self.next_ordinal.load(Ordering::Relaxed);
        let done = self
            .host
            .clone()
            .version(self.prefix.to_string(), next, change.to_owned(), range);
        StepFuture::new(done)
    }

    /// Sets an attribute of the run, by which it is found (`runs list --attribute`); `null` takes one away. It is written
    /// with the next record of the run's state: when it next waits, or ends, or is handed on; what must be found from the
    /// beginning is given at the start. In a replay it is set again, so it may say nothing that a replay would not.
    ///
    /// # Errors
    /// The name does not have 1 to 100 characters, the value is no string, number or boolean or longer than 250
    /// characters, or there are 16 others already.
    pub fn set_attribute(&self, name: &str, value: impl Into<serde_json::Value>) -> anyhow::Result<()> {
        let set = self.host.set_attribute(name, value.into());
        set.map_err(|wrong| anyhow::anyhow!(wrong))
    }

    /// The instant of the last thing that this run recorded, so the same in every replay: when its code began, when a
    /// step ended, until when it slept.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.now.last().map_or(EARLIEST, |now| *lock(now))
    }

    /// A new UUID, the same in every replay and in every retry of the run.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        draw::uuid(self.seed(), &self.place("uuid").to_string())
    }

    /// A random value, the same in every replay and in every retry of the run.
    #[must_use]
    pub fn random<T>(&self) -> T
    where
        StandardUniform: Distribution<T>,
    {
        draw::random(self.seed(), &self.place("random").to_string())
    }

    pub(super) fn host(&self) -> Arc<dyn ContextHost> {
        self.host.clone()
    }

    pub(super) fn workflow(&self) -> &str {
        &self.run.workflow
    }

    fn seed(&self) -> RunId {
        self.run.seed_id.unwrap_or(self.run.origin_id)
    }

    pub(super) fn place(&self, name: &str) -> Place {
        Place {
            prefix: self.prefix.to_string(),
            ordinal: self.next_ordinal.fetch_add(1, Ordering::Relaxed),
            name: name.to_owned(),
        }
    }

    /// The branch hears of something that happened then.
    pub(super) fn hears_of(&self, at: DateTime<Utc>) {
        advance(&self.now, at);
    }

    /// What the code is told of something that is over: from then on it is not earlier than that.
    pub(super) fn told<T: 'static>(
        &self,
        done: impl Future<Output = anyhow::Result<Done>> + Send + 'static,
        read: impl FnOnce(Done) -> anyhow::Result<T> + Send + 'static,
    ) -> StepFuture<T> {
        let now = self.now.clone();
        StepFuture::new(async move {
            let done = done.await?;
            advance(&now, done.at);
            match done.failed {
                Some(error) => Err(error.into()),
                None => read(done),
            }
        })
    }
}

fn advance(now: &[Arc<Mutex<DateTime<Utc>>>], at: DateTime<Utc>) {
    for now in now {
        let mut latest = lock(now);
        *latest = at.max(*latest);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As exact as the record is: what the code is told must be what a replay tells it.
pub(super) fn recordable(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(6).clamp(EARLIEST, LATEST)
}

pub(super) fn refuse<T: 'static>(why: String) -> StepFuture<T> {
    StepFuture::new(async move { Err(anyhow::anyhow!(why)) })
}
