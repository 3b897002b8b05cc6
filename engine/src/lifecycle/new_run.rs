//! What a run is started with.

use std::borrow::Cow;
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::check::LONGEST_DEADLINE;
use super::fleet::{RunClaim, WorkRun};
use super::manager::RunId;
use super::queues::{HIGHEST_PRIORITY, misnamed};

/// A run to be started, which the engine drives. All but its workflow may be left as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRun {
    /// The id it will have unless an earlier run answers for it; asking again under the same id starts none twice.
    pub id: RunId,
    /// Its workflow.
    pub workflow: Cow<'static, str>,
    /// Its input, exact bytes of a JSON document.
    pub params: Vec<u8>,
    /// From where it is claimed; none: the queue with its workflow's name.
    pub queue: Option<String>,
    /// It goes before runs of lower priority that came up to 15 seconds a step earlier; at most 20.
    pub priority: u8,
    /// On whose behalf it runs.
    pub tenant: Option<String>,
    /// Key of the limits that hold for each key.
    pub limit_key: Option<String>,
    /// A later start under this key replaces it while it is queued.
    pub debounce_key: Option<String>,
    /// By what it is found: an object of strings, numbers and booleans.
    pub attributes: Option<serde_json::Value>,
    /// It starts no earlier.
    pub start_at: Option<DateTime<Utc>>,
    /// It starts no earlier than so long after it is started, by the database's clock.
    pub delay: Option<Duration>,
    /// It fails when it is not over this long after its start.
    pub deadline: Option<Duration>,
    /// Messages per second that the fleet may send for it.
    pub pace_per_s: Option<i32>,
    /// W3C trace context to continue.
    pub traceparent: Option<String>,
    /// At most one unfinished run has this key.
    pub singleton_key: Option<String>,
    /// At most one run of the workflow ever has this key.
    pub idempotency_key: Option<String>,
    /// Who asks.
    pub actor: Option<String>,
}

impl NewRun {
    /// A run of a workflow with the empty input, under an id of its own.
    #[must_use]
    pub fn new(workflow: impl Into<Cow<'static, str>>) -> Self {
        Self {
            id: Uuid::now_v7(),
            workflow: workflow.into(),
            params: b"{}".to_vec(),
            queue: None,
            priority: 0,
            tenant: None,
            limit_key: None,
            debounce_key: None,
            attributes: None,
            start_at: None,
            delay: None,
            deadline: None,
            pace_per_s: None,
            traceparent: None,
            singleton_key: None,
            idempotency_key: None,
            actor: None,
        }
    }

    /// Whether it can be started as it is; the input is not looked at.
    ///
    /// # Errors
    /// What cannot be right, in words.
    pub fn check(&self) -> Result<(), String> {
        if self.priority > HIGHEST_PRIORITY {
            return Err(format!("priority {} is above {HIGHEST_PRIORITY}", self.priority));
        }
        if self.delay.is_some_and(|delay| delay > LONGEST_DEADLINE) {
            return Err("the delay is more than a hundred years".to_owned());
        }
        let names = [
            ("queue", &self.queue),
            ("tenant", &self.tenant),
            ("limit key", &self.limit_key),
            ("debounce key", &self.debounce_key),
        ];
        let wrong = names
            .iter()
            .find_map(|(what, name)| Some(format!("the {what} {}", misnamed(name.as_deref()?)?)));
        wrong.map_or(Ok(()), Err)
    }

    /// Whether it is started by a statement of its own: another run may answer for it, or it is delayed.
    #[must_use]
    pub fn starts_alone(&self) -> bool {
        let keys = [&self.singleton_key, &self.idempotency_key, &self.debounce_key];
        keys.iter().any(|key| key.is_some()) || self.delay.is_some()
    }
}

/// What became of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// A new run.
    New(RunId),
    /// An earlier run has the idempotency key, or the id.
    Found(RunId),
    /// A queued run has the debounce key: it was given this input and this time.
    Debounced(RunId),
    /// Another unfinished run holds the singleton key.
    Held,
    /// Contended this moment.
    Busy,
}

/// A run that is claimed from its first moment on, by the replica in whose process it is started.
#[derive(Debug, Clone, PartialEq)]
pub struct Birth {
    /// The run; nothing holds it back.
    pub run: NewRun,
    /// Which version of the workflow's code it begins with.
    pub code_version: u32,
}

impl Birth {
    /// The claim, and the run as its code sees it, when it was started then.
    pub(crate) fn claimed(&self, claim_id: Uuid, at: DateTime<Utc>) -> (RunClaim, WorkRun) {
        let run = self.run.clone();
        let claim = RunClaim {
            run: run.id,
            token: 1,
            claim_id,
        };
        let work = WorkRun {
            id: run.id,
            queue: run.workflow.to_string(),
            workflow: run.workflow.into_owned(),
            params: run.params,
            origin_id: run.id,
            slot: None,
            created_at: at,
            traceparent: run.traceparent,
            started_at: Some(at),
            claimed_at: at,
            attempts: 0,
            code_version: self.code_version,
            seed_id: None,
            repeated_at: None,
            parent_id: None,
            depth: 0,
            undoing: false,
            scheduled: false,
            wake_seq: 0,
            steps: Vec::new(),
            signals: Vec::new(),
            unread: false,
        };
        (claim, work)
    }
}
