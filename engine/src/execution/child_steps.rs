//! Children of a run that is ours: starting them, waiting for their ends, and what becomes of them when it ends first.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::executor::Shared;
use super::history::Asked;
use super::owner_host::{Left, OwnerHost, State, done};
use crate::lifecycle::{
    ChildEnd, DEEPEST, EndedChild, FleetError, Kind, NewChild, NewStep, OpenWait, RunId, Saved, StepState, StepStatus,
    derived_id,
};
use crate::telemetry::closed::StartedBy;
use crate::telemetry::meters;
use crate::workflow::{Done, NewRunOfMine, Place, StepError, check_size, to_json};

/// What is known of the end of a child.
enum Heard {
    /// As it is recorded.
    Recorded(StepState),
    /// It is over, and that is to be recorded.
    Ended(EndedChild),
}

impl OwnerHost {
    /// Starts a child, unless its step has a row already: then it was started.
    pub(super) async fn run_start_child(
        self: Arc<Self>,
        place: Place,
        child: NewRunOfMine,
        asked: Asked,
    ) -> anyhow::Result<RunId> {
        let path = place.to_string();
        let id = derived_id(self.run.id, &path);
        if matches!(asked, Asked::Ended(_) | Asked::Open(_)) {
            return Ok(id);
        }
        if let ControlFlow::Break(refused) = self.comes_to(&path, asked).await {
            return refused.map(|_| id);
        }
        if let Err(refused) = self.check_child(&path, &child) {
            // By what this binary is, so another one may start it: nothing says that it was not.
            return self.doom(refused);
        }
        let _operation = self.begin_new(&path).await?;
        let NewRunOfMine {
            workflow,
            params,
            mut wishes,
            ..
        } = child;
        wishes.traceparent = self.told.link();
        let new = NewChild {
            claim: self.held.claim,
            path: path.clone(),
            begun_at: self.time(),
            id,
            // A retry of this run has other children, whose messages have the same ids.
            origin_id: derived_id(self.run.origin_id, &path),
            workflow: workflow.to_owned(),
            params,
            wishes,
        };
        // Known before a select may be settled that this branch loses: it is stopped with it.
        let host = self.clone();
        let started = self.surely(&path, async move { host.shared.children.start(&host.held, new).await });
        match started.await {
            Ok(true) => {
                meters().workflow(workflow).runs_started(StartedBy::Child, 1);
                self.told.started(id);
                self.lock().unread.insert(path);
                Ok(id)
            }
            Ok(false) => self.leave(Left::Lost).await,
            Err(error @ (FleetError::Unanswered(_) | FleetError::NotNow(_))) => {
                self.leave(Left::Retry(error.to_string())).await
            }
            Err(error) => self.doom(anyhow::anyhow!("the child of step {path} cannot be started: {error}")),
        }
    }

    fn check_child(&self, path: &str, child: &NewRunOfMine) -> anyhow::Result<()> {
        let workflow = child.workflow;
        anyhow::ensure!(
            self.run.depth < DEEPEST,
            "step {path} starts nothing: children nest deeper than {DEEPEST}; does workflow {workflow} start itself?"
        );
        let known = child.elsewhere || self.shared.registry.get(workflow).is_some();
        anyhow::ensure!(
            known,
            "step {path} starts nothing: there is no workflow {workflow} in this binary, which has {}: add it to the \
             engine, or say with ChildOptions::elsewhere that other replicas run it",
            self.shared.workflows().join(", ")
        );
        Ok(())
    }

    /// Waits for the end of a child and records it, unless it is recorded.
    pub(super) async fn run_child_end(self: Arc<Self>, path: String) -> anyhow::Result<Done> {
        let asked = match self.lock().history.step(&path).cloned() {
            Some(step) if step.status != StepStatus::Open => Asked::Ended(step),
            Some(step) => Asked::Open(step),
            None => Asked::New,
        };
        if let ControlFlow::Break(ended) = self.comes_to(&path, asked).await {
            return ended;
        }
        let wait = OpenWait {
            path: path.clone(),
            kind: Kind::Child,
            due_at: None,
            attempts: 0,
        };
        // Of a child that this claim started no record was read.
        let read = self.lock().history.step(&path).map(|step| step.started_at);
        let since = read.unwrap_or_else(|| self.time());
        let ended = match self.wait_until(wait, |host| host.end_of_child(&path)).await? {
            // Whoever asks twice is told what the first one was told.
            Heard::Recorded(step) => return done(step),
            Heard::Ended(ended) => ended,
        };
        let _operation = self.begin();
        self.told
            .waited(&path, &path, Kind::Child, since..self.time(), self.time());
        let mut step = self.new_step(path.clone(), Kind::Child);
        step.ends_open = true;
        let cap = self.shared.settings.max_result;
        match told(ended, self.run.id, cap) {
            Ok(output) => step.result = Some(output),
            Err(error) => {
                step.status = StepStatus::Failed;
                step.result = Some(to_json(&error)?);
            }
        }
        fail::fail_point!("step.before_save");
        let (host, told) = (self.clone(), step.clone().into_state());
        let saved = self.surely(&path, async move { host.record_child_end(step).await });
        let saved = saved.await;
        self.saved(told, saved).await
    }

    /// How a child ended, unless somebody is about to record that.
    fn end_of_child(&self, path: &str) -> Option<Heard> {
        let state = self.lock();
        if state.writing.contains(path) {
            return None;
        }
        let recorded = state.history.step(path).filter(|step| step.status != StepStatus::Open);
        match recorded {
            Some(step) => Some(Heard::Recorded(step.clone())),
            None => state.ended_children.get(path).cloned().map(Heard::Ended),
        }
    }

    /// Writes it down, here too.
    async fn record_child_end(&self, step: NewStep) -> Result<Saved, FleetError> {
        let told = step.clone().into_state();
        let saved = self.shared.checkpoints.save(&self.held, step).await?;
        let recorded = match &saved {
            Saved::Done => Some(told),
            Saved::Adopted(earlier) => Some((**earlier).clone()),
            Saved::Lost => None,
        };
        if let Some(recorded) = recorded.filter(|step| step.status != StepStatus::Open) {
            let mut state = self.lock();
            state.unread.remove(&recorded.path);
            state.history.learn(recorded);
        }
        Ok(saved)
    }

    /// Reads which of the children are over that the code waits for; answers whether any is.
    pub(super) async fn hear_children(&self) -> Result<bool, FleetError> {
        let awaited: Vec<String> = self.lock().unheard_children().map(str::to_owned).collect();
        if awaited.is_empty() {
            return Ok(false);
        }
        let ended = self.shared.runs.ended_children(self.run.id, &awaited).await?;
        if ended.is_empty() {
            return Ok(false);
        }
        let by_path = ended.into_iter().map(|child| (child.path.clone(), child));
        self.lock().ended_children.extend(by_path);
        self.ring();
        Ok(true)
    }

    /// Whether the run has children whose end it has not read.
    pub(super) fn has_unread_children(&self) -> bool {
        !self.lock().unread.is_empty()
    }
}

impl State {
    /// Steps at which the code waits for a child whose end it has not heard.
    pub(super) fn unheard_children(&self) -> impl Iterator<Item = &str> {
        let waits = self.waits.values().filter(|wait| wait.kind == Kind::Child);
        let unheard = waits.filter(|wait| !self.ended_children.contains_key(&wait.path));
        unheard.map(|wait| &*wait.path)
    }
}

/// What the code is told of a child's end.
fn told(ended: EndedChild, parent: RunId, cap: usize) -> Result<Vec<u8>, StepError> {
    let EndedChild { path, run, end } = ended;
    let child = run.unwrap_or_else(|| derived_id(parent, &path));
    let (cancelled, reason) = match end {
        ChildEnd::Completed(output) => return check_size(&path, &output, cap).map(|()| output),
        ChildEnd::Failed(reason) => (false, reason),
        ChildEnd::Cancelled(reason) => (true, reason),
        ChildEnd::Gone => (false, "it was pruned before its end was read".to_owned()),
    };
    Err(StepError::Child {
        path,
        child,
        cancelled,
        reason,
    })
}

/// Lets the runs of a schedule begin that wait until this one is over; what is not done here the sweep does.
pub(super) async fn look_after_followers(shared: &Shared, run: RunId) {
    fail::fail_point!("followers.before_wake", |_| ());
    if let Err(error) = shared.runs.wake_behind(run).await {
        tracing::warn!(name: "followers_not_woken", %run, %error, "runs that wait for one that is over are left to the sweep to wake");
    }
}

/// What is left to do about a run that is over: its parent is told, and its children are stopped. Whatever is not done here
/// the sweep does.
pub(super) async fn look_after_family(shared: &Shared, run: RunId, parent: Option<RunId>, has_children: bool) {
    if let Some(parent) = parent {
        shared.parents.wake(parent).await;
    }
    if !has_children {
        return;
    }
    if let Err(error) = shared.runs.stop_children(run).await {
        tracing::warn!(name: "children_not_stopped", %run, %error, "could not stop the children of a run that is over");
    }
}
