//! Runs a run's code to its end, and undoes what it did when that is not the end it was to come to.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures::FutureExt;
use serde::{Deserialize, Serialize};

use super::owner_host::{Left, OwnerHost};
use super::step_tries::Tries;
use crate::lifecycle::{Kind, LARGEST_OUTPUT, OpenWait, StepStatus};
use crate::telemetry::closed::StepEnd;
use crate::workflow::{
    Action, Context, DynWorkflow, RetryPolicy, StepOptions, UNDO, Undo, UndoAction, continued, fatal, to_json,
    undo_path,
};

/// How a run's code came to its end.
#[derive(Debug)]
pub(super) enum End {
    /// It returned this.
    Completed(Vec<u8>),
    /// It failed, and what it did is undone.
    Failed(String),
    /// It goes on as another run with these parameters.
    GoesOn(Vec<u8>),
    /// It was to stop, and what it did is undone.
    Unwound,
    /// What it did cannot all be undone; says why, and what is left.
    NotUndone(String, Vec<OpenWait>),
}

/// That a run undoes what it did, as recorded.
#[derive(Debug, Serialize, Deserialize)]
struct Undoing {
    /// Why it failed; none: it was to stop.
    reason: Option<String>,
    /// What is undone, in this order.
    order: Vec<String>,
}

/// What could not be undone, and why.
struct NotUndone(OpenWait, String);

impl OwnerHost {
    /// Runs the code to its end.
    pub(super) async fn carry_out(self: Arc<Self>, workflow: Arc<dyn DynWorkflow>, context: Context) -> End {
        let code = AssertUnwindSafe(async { workflow.run(context, &self.run.params).await }).catch_unwind();
        let outcome = tokio::select! {
            biased;
            outcome = code => outcome,
            () = self.past_grace() => {
                tracing::warn!(name: "run_dropped", run = %self.run.id, reason = "it did not come to its end in time", "the code of a run is dropped");
                Ok(Err(anyhow::anyhow!("its code did not come to its end in time")))
            }
        };
        let failure = match outcome {
            Ok(Ok(output)) if !self.unwinds() => match self.done(End::Completed(output)).await {
                End::Completed(output) if output.len() > LARGEST_OUTPUT => self.too_large(output.len()),
                end => return end,
            },
            Ok(Ok(_)) => "it was to come to its end".to_owned(),
            Ok(Err(error)) => match continued(&error) {
                Some(params) if !self.unwinds() => return self.done(End::GoesOn(params.to_vec())).await,
                _ => format!("{error:#}"),
            },
            Err(panic) => format!("the workflow's code panicked: {}", panic_text(&*panic)),
        };
        self.forgive();
        let differs = (!self.unwinds())
            .then(|| self.lock().history.never_asked(true))
            .flatten();
        match differs {
            Some(how) => self.leave(Left::Diverged(how)).await,
            None => {
                let failure = self.failure(failure);
                self.take_back(failure).await
            }
        }
    }

    /// Why it fails though its code has not.
    fn too_large(&self, size: usize) -> String {
        format!(
            "workflow {} returned {size} bytes, more than {LARGEST_OUTPUT}: store it elsewhere and return a reference",
            self.run.workflow
        )
    }

    /// The end that the code says, unless it cannot be taken at its word.
    async fn done(&self, end: End) -> End {
        match self.unfinished() {
            Some(how) => self.leave(Left::Diverged(how)).await,
            None => end,
        }
    }

    /// Undoes all that the code did, last one first.
    async fn take_back(self: Arc<Self>, failure: String) -> End {
        // What is on its way may be committed yet.
        self.written("").await;
        let reason = (!self.is_to_stop()).then_some(failure);
        let undoing = match self.begin_to_undo(reason).await {
            Ok(undoing) => undoing,
            Err(error) => return self.leave(Left::Retry(error.to_string())).await,
        };
        let mut left = Vec::new();
        for path in &undoing.order {
            if let Err(not_undone) = self.undo(path).await {
                left.push(not_undone);
            }
        }
        let why = undoing.reason.unwrap_or_else(|| "it was to stop".to_owned());
        match left.is_empty() {
            false => {
                let (reason, waits) = not_undone(&why, left);
                End::NotUndone(reason, waits)
            }
            true if self.is_to_stop() => End::Unwound,
            true => End::Failed(why),
        }
    }

    /// Records why, and in which order; from then on the run comes to no other end.
    async fn begin_to_undo(self: &Arc<Self>, reason: Option<String>) -> anyhow::Result<Undoing> {
        let (recorded, order, missing) = {
            let state = self.lock();
            let missing = state.undoables.missing(&state.history);
            let order = state.undoables.in_order(&state.history);
            (state.history.undo().cloned(), order, missing)
        };
        let recorded: Option<Undoing> = recorded.and_then(|step| serde_json::from_slice(&step.result?).ok());
        let undoing = match recorded {
            Some(mut recorded) => {
                let late = order.into_iter().filter(|path| !recorded.order.contains(path));
                recorded.order = late.collect::<Vec<_>>().into_iter().chain(recorded.order).collect();
                recorded
            }
            None => {
                let undoing = Undoing { reason, order };
                if !undoing.order.is_empty() {
                    self.unwind(false);
                    let _operation = self.begin();
                    let mut step = self.new_step(UNDO.to_owned(), Kind::Step);
                    step.result = Some(to_json(&undoing)?);
                    self.save(step).await?;
                }
                undoing
            }
        };
        if !missing.is_empty() && !self.was_retraced() {
            // A branch was dropped before it had come as far as it is recorded.
            let why = format!(
                "its code is run again to find how step {} is undone",
                missing.join(", ")
            );
            return self.leave(Left::Retry(why)).await;
        }
        Ok(undoing)
    }

    /// Undoes what branches did that have lost a select.
    pub(super) async fn undo_branches(self: Arc<Self>, lost: Vec<String>) {
        // What a run undoes that comes to its end, it undoes in one order.
        if self.unwinds() {
            return;
        }
        let order = {
            let state = self.lock();
            state.undoables.in_order(&state.history)
        };
        let mut left = Vec::new();
        for path in order
            .iter()
            .filter(|path| lost.iter().any(|prefix| path.starts_with(prefix)))
        {
            if let Err(not_undone) = self.undo(path).await {
                left.push(not_undone);
            }
        }
        if !left.is_empty() {
            let (reason, waits) = not_undone("a branch lost a select", left);
            self.leave(Left::NotUndone(reason, waits)).await
        }
    }

    /// Undoes one step, unless that is recorded.
    async fn undo(self: &Arc<Self>, path: &str) -> Result<(), NotUndone> {
        let row = self.lock().history.step(&undo_path(path)).cloned();
        if row.as_ref().is_some_and(|row| row.status == StepStatus::Completed) {
            self.lock().undoables.undone(path);
            return Ok(());
        }
        // Of one that has failed for good and is tried again, every try counts anew.
        let due = row.as_ref().filter(|row| row.due_at.is_some());
        let mut tries = Tries {
            path: undo_path(path),
            kind: Kind::Step,
            open: row.is_some(),
            failures: due.map_or(0, |row| row.attempts.into()),
            retry: RetryPolicy::default(),
            told: self.told.step(path, &undo_path(path), Kind::Step),
        };
        let how = self.lock().undoables.take(path);
        if how.is_none() && self.lock().undoables.is_spent(path) {
            let why = format!("its code is run again to undo step {path}");
            return self.leave(Left::Retry(why)).await;
        }
        let Some((undo, result)) = how else {
            let why = format!("step {path}: its code, run again, did not come to where it says how");
            return Err(NotUndone(tries.wait(None), why));
        };
        let due_at = due.and_then(|row| row.due_at);
        let done = match undo {
            Undo::Action(undo, options) => self.undo_by_action(&mut tries, undo, options, result, due_at).await,
            Undo::Transaction(undo, options) => {
                tries.retry = options.retry;
                let work = undo(result.unwrap_or_default());
                let mut operation = self.begin_at(&tries, due_at).await;
                let undone = self.try_transaction(&mut tries, work, options, &mut operation).await;
                undone.map(|_| ())
            }
        };
        match &done {
            Ok(()) => {
                tries.told.end(StepEnd::Completed, tries.failures);
                self.lock().undoables.undone(path);
            }
            Err(_) => tries.told.end(StepEnd::Failed, tries.failures),
        }
        done.map_err(|error| NotUndone(tries.wait(None), format!("{error:#}")))
    }

    async fn undo_by_action(
        self: &Arc<Self>,
        tries: &mut Tries,
        undo: UndoAction,
        options: StepOptions,
        result: Option<Vec<u8>>,
        due_at: Option<chrono::DateTime<chrono::Utc>>,
    ) -> anyhow::Result<()> {
        tries.retry = options.retry;
        let mut operation = self.begin_at(tries, due_at).await;
        let step = self.new_step(tries.path.clone(), tries.kind);
        let mut action = as_action(undo, result);
        let undone = self.try_action(tries, &mut action, options, &mut operation).await?;
        fail::fail_point!("undo.before_save");
        self.ended(step, tries, StepStatus::Completed, undone).await?;
        fail::fail_point!("undo.after_save");
        Ok(())
    }
}

/// A panic of what undoes a step is a failure of it: what else is to be undone is.
fn as_action(mut undo: UndoAction, result: Option<Vec<u8>>) -> Action {
    let failed = |panic: Box<dyn Any + Send>| fatal(anyhow::anyhow!("its code panicked: {}", panic_text(&*panic)));
    Box::new(move || {
        let undone = catch_unwind(AssertUnwindSafe(|| undo(result.clone())));
        async move {
            let undone = AssertUnwindSafe(undone.map_err(failed)?).catch_unwind().await;
            undone.map_err(failed)??;
            Ok(b"null".to_vec())
        }
        .boxed()
    })
}

fn not_undone(why: &str, left: Vec<NotUndone>) -> (String, Vec<OpenWait>) {
    let reasons: Vec<&str> = left.iter().map(|NotUndone(_, why)| why.as_str()).collect();
    let reason = format!(
        "{why}; and what it did is not all undone: {}; resume it to try that again, or cancel it by force",
        reasons.join("; ")
    );
    (reason, left.into_iter().map(|NotUndone(wait, _)| wait).collect())
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
