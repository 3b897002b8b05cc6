//! A run of a test, and what may be done with it.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::engine::TestEngine;
use crate::client::{RunError, RunStatus};
use crate::inspect::NotRepeated;
use crate::lifecycle::{Kind, NewSignal, RepeatRun, RunId, RunStore as _, Signalled, StepState, StepStatus};
use crate::memory::RunView;
use crate::workflow::Place;

/// A run that was started in a test.
#[derive(Clone)]
pub struct TestHandle<O> {
    pub(super) engine: TestEngine,
    id: RunId,
    output: PhantomData<fn() -> O>,
}

impl TestEngine {
    /// A run by its id, such as a child that a workflow started.
    #[must_use]
    pub fn run<O>(&self, id: RunId) -> TestHandle<O> {
        TestHandle::new(self.clone(), id)
    }

    /// All runs of a workflow, in order of their ids.
    #[must_use]
    pub fn runs_of(&self, workflow: &str) -> Vec<RunId> {
        let views = self.world.store.views().into_iter();
        views
            .filter(|view| view.workflow == workflow)
            .map(|view| view.id)
            .collect()
    }
}

impl<O> TestHandle<O> {
    pub(super) fn new(engine: TestEngine, id: RunId) -> Self {
        Self {
            engine,
            id,
            output: PhantomData,
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> RunId {
        self.id
    }

    /// Its state now, or that of the run that goes on in its place.
    ///
    /// # Panics
    /// There is no such run.
    #[must_use]
    #[track_caller]
    pub fn status(&self) -> RunStatus {
        match RunStatus::from_name(self.view().status) {
            Some(status) => status,
            None => panic!("run {} is in a state that is not known", self.id),
        }
    }

    /// Sends it a signal; what it does about it happens when something is waited for.
    ///
    /// # Panics
    /// It is over, or the signal cannot be sent.
    pub async fn signal(&self, name: &str, payload: &(impl Serialize + Sync)) {
        self.tell(name, payload, None).await;
    }

    /// The same, once however often it is sent under this key.
    ///
    /// # Panics
    /// It is over, or the signal cannot be sent.
    pub async fn signal_once(&self, key: impl Into<String>, name: &str, payload: &(impl Serialize + Sync)) {
        self.tell(name, payload, Some(key.into())).await;
    }

    async fn tell(&self, name: &str, payload: &(impl Serialize + Sync), idempotency_key: Option<String>) {
        let payload = match serde_json::to_value(payload) {
            Ok(payload) => payload,
            Err(why) => panic!("the payload of signal {name} is not JSON: {why}"),
        };
        let signal = NewSignal {
            run: self.id,
            name: name.to_owned(),
            payload,
            idempotency_key,
            actor: None,
            reason: None,
        };
        match self.engine.world.store.signal_run(&signal).await {
            Ok(Signalled::Sent | Signalled::Known) => {}
            Ok(refused) => panic!("signal {name} to run {} was not taken: {refused:?}", self.id),
            Err(why) => panic!("signal {name} cannot be sent: {why}"),
        }
    }

    /// What it has shown under a name, the newest; none: nothing yet.
    ///
    /// # Panics
    /// It shows something else.
    #[must_use]
    #[track_caller]
    pub fn shown<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let world = &self.engine.world;
        let steps = world.store.steps(world.store.last_run(self.id)).into_iter();
        let shown = steps.filter(|step| step.kind == Kind::Show && step.status == StepStatus::Completed);
        let named = shown.filter(|step| Place::of_path(&step.path).is_some_and(|place| place.name == name));
        // Of one instant, which the tests' clock has for many, the later place: its number may have a digit more.
        let newest = named.max_by_key(|step| (step.finished_at, step.path.len(), step.path.clone()))?;
        match serde_json::from_slice(newest.result.as_deref().unwrap_or(b"null")) {
            Ok(value) => Some(value),
            Err(why) => panic!("what run {} shows as {name} does not fit: {why}", self.id),
        }
    }

    /// An attribute of it, or of the run that goes on in its place: from its start, or set by its code when it last waited or
    /// ended.
    ///
    /// # Panics
    /// There is no such run.
    #[must_use]
    #[track_caller]
    pub fn attribute(&self, name: &str) -> Option<serde_json::Value> {
        self.view().attributes.remove(name)
    }

    /// Asks it to stop: its code comes to its end and undoes what it did.
    pub fn cancel(&self, reason: &str) {
        self.engine.world.store.cancel_run(self.id, reason);
    }

    /// Asks it to stop without undoing what it did.
    pub fn force_cancel(&self, reason: &str) {
        self.engine.world.store.force_cancel_run(self.id, reason);
    }

    /// Does again what it did, or the run that goes on in its place, once that is over, from the step that failed, as `runs
    /// retry` does.
    ///
    /// # Errors
    /// Says why no run was started.
    pub fn retry(&self, reason: &str) -> Result<Self, NotRepeated> {
        self.repeat(RepeatRun {
            reason: Some(reason.to_owned()),
            ..RepeatRun::retry(self.id)
        })
    }

    /// The same as [`RepeatRun`] says: from a named step, or with another input. It is this run that is repeated, whichever
    /// is named there, under an id of the test's.
    ///
    /// # Errors
    /// Says why no run was started.
    pub fn repeat(&self, how: RepeatRun) -> Result<Self, NotRepeated> {
        let how = RepeatRun {
            id: self.engine.world.next_run_id(),
            run: self.id,
            ..how
        };
        let run = self.engine.world.store.repeat_run(&how)?;
        Ok(Self::new(self.engine.clone(), run))
    }

    /// Lets nothing new of it begin, or of the run that goes on in its place.
    pub fn pause(&self, reason: &str) {
        self.engine.world.store.pause_run(self.id, reason);
    }

    /// Lets it go on, or the run that goes on in its place, also after it was set aside.
    pub fn resume(&self) {
        self.engine.world.store.resume_run(self.id);
    }

    /// Lets time pass until it is over, and gives what it returned, or the last of those that went on in its place. Nothing is waited for in real time but steps that
    /// take some.
    ///
    /// # Errors
    /// It failed, was cancelled or quarantined, or returned something else.
    ///
    /// # Panics
    /// It waits for something that nobody does, or needs what the test did not give.
    pub async fn result(&self) -> Result<O, RunError>
    where
        O: DeserializeOwned,
    {
        let view = self.end().await;
        let (run, reason) = (self.id, view.reason.unwrap_or_default());
        match view.status {
            "completed" => serde_json::from_slice(view.output.as_deref().unwrap_or(b"null")).map_err(|error| {
                let why = error.to_string();
                RunError::Misfit { run, why }
            }),
            "cancelled" => Err(RunError::Cancelled { run, reason }),
            "quarantined" => Err(RunError::Quarantined { run, reason }),
            _ => Err(RunError::Failed { run, reason }),
        }
    }

    /// Lets time pass until it is over or set aside.
    pub(super) async fn end(&self) -> RunView {
        let world = &self.engine.world;
        let is_over = |view: &RunView| {
            let over = RunStatus::from_name(view.status).is_some_and(RunStatus::is_over);
            over || view.status == "quarantined"
        };
        loop {
            let _turn = world.turn.lock().await;
            world.settle().await;
            let last = TestHandle::<O>::new(self.engine.clone(), world.store.last_run(self.id));
            let view = last.view();
            if is_over(&view) {
                return view;
            }
            match world.next_event() {
                Some(at) => world.move_to(at),
                None => panic!("{}", last.stuck()),
            }
        }
    }

    fn stuck(&self) -> String {
        let waits: Vec<String> = self
            .open_steps()
            .iter()
            .map(|step| format!("{} ({})", step.path, step.kind.as_str()))
            .collect();
        format!(
            "run {} is {} and waits for {}, and nothing more happens however much time passes",
            self.id,
            self.view().status,
            if waits.is_empty() {
                "nothing that is recorded".to_owned()
            } else {
                waits.join(", ")
            },
        )
    }

    /// What it waits for now.
    pub(super) fn open_steps(&self) -> Vec<StepState> {
        let store = &self.engine.world.store;
        let steps = store.steps(store.last_run(self.id)).into_iter();
        steps.filter(|step| step.status == StepStatus::Open).collect()
    }

    #[track_caller]
    pub(super) fn view(&self) -> RunView {
        let store = &self.engine.world.store;
        match store.view(store.last_run(self.id)) {
            Some(view) => view,
            None => panic!("there is no run {}", self.id),
        }
    }
}

impl<O> std::fmt::Debug for TestHandle<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TestHandle").field(&self.id).finish()
    }
}
