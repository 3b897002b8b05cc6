//! What a test says must be so of a run.

use serde::Serialize;
use serde_json::Value;

use super::handle::TestHandle;
use crate::lifecycle::StepStatus;

impl<O> TestHandle<O> {
    /// Lets time pass until it is over.
    ///
    /// # Panics
    /// It did not return this.
    pub async fn assert_completed_with(&self, expected: &(impl Serialize + Sync)) {
        let view = self.end().await;
        let reason = view.reason.unwrap_or_default();
        assert_eq!(view.status, "completed", "run {}: {reason}", self.id());
        let returned = read(view.output.as_deref().unwrap_or(b"null"));
        assert_eq!(returned, json(expected), "what run {} returned", self.id());
    }

    /// Lets time pass until it is over.
    ///
    /// # Panics
    /// It did not fail with a reason that has these words in it.
    pub async fn assert_failed_with(&self, words: &str) {
        let view = self.end().await;
        let reason = view.reason.unwrap_or_default();
        assert_eq!(view.status, "failed", "run {}: {reason}", self.id());
        assert!(
            reason.contains(words),
            "run {} failed because of {reason:?}, not {words:?}",
            self.id()
        );
    }

    /// # Panics
    /// The step at this path has not ended well, with this result.
    #[track_caller]
    pub fn assert_step(&self, path: &str, expected: &impl Serialize) {
        let steps = self.engine.world.store.steps(self.id());
        let Some(step) = steps.iter().find(|step| step.path == path) else {
            let paths: Vec<&str> = steps.iter().map(|step| step.path.as_str()).collect();
            panic!("run {} has no step {path}; it has {paths:?}", self.id());
        };
        assert_eq!(step.status, StepStatus::Completed, "step {path} of run {}", self.id());
        let result = read(step.result.as_deref().unwrap_or(b"null"));
        assert_eq!(result, json(expected), "the result of step {path} of run {}", self.id());
    }

    /// # Panics
    /// A step at this path was recorded.
    #[track_caller]
    pub fn assert_no_step(&self, path: &str) {
        let steps = self.engine.world.store.steps(self.id());
        let recorded = steps
            .iter()
            .any(|step| step.path == path && step.status != StepStatus::Open);
        assert!(!recorded, "run {} has recorded step {path}", self.id());
    }

    /// # Panics
    /// It does not wait there: `2:approval` is the signal of that name at place 2.
    #[track_caller]
    pub fn assert_waits_at(&self, path: &str) {
        let open: Vec<String> = self.open_steps().into_iter().map(|step| step.path).collect();
        let waits = open.iter().any(|known| known == path);
        assert!(
            waits,
            "run {} is {} and waits at {open:?}, not at {path}",
            self.id(),
            self.view().status
        );
    }
}

#[track_caller]
fn json(value: &impl Serialize) -> Value {
    match serde_json::to_value(value) {
        Ok(value) => value,
        Err(why) => panic!("what is expected is not JSON: {why}"),
    }
}

fn read(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned()))
}
