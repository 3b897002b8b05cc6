//! What a test sees of runs in memory.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::run::Run;
use crate::lifecycle::{RunClaim, RunId, RunRequest};

/// A run to start, with where it is claimed from and when.
#[derive(Debug, Clone, PartialEq)]
pub struct RunStart {
    /// What is asked for; the engine drives it.
    pub request: RunRequest,
    /// The queue; none: the one with its workflow's name.
    pub queue: Option<String>,
    /// Goes before runs of lower priority that came up to 15 seconds a step earlier; at most 20.
    pub priority: u8,
    /// It starts only when that run is over.
    pub after_run: Option<RunId>,
    /// On whose behalf it runs.
    pub tenant: Option<String>,
    /// Key of the limits of its queue that hold for each key.
    pub limit_key: Option<String>,
    /// While it is queued, a later start under this key replaces it.
    pub debounce_key: Option<String>,
    /// By what it is found.
    pub attributes: Map<String, Value>,
}

impl RunStart {
    /// An ordinary run of a workflow.
    #[must_use]
    pub fn new(workflow: impl Into<String>) -> Self {
        Self {
            request: RunRequest::new(workflow).for_engine(),
            queue: None,
            priority: 0,
            after_run: None,
            tenant: None,
            limit_key: None,
            debounce_key: None,
            attributes: Map::new(),
        }
    }
}

/// A run as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct RunView {
    /// Its id.
    pub id: RunId,
    /// Its workflow.
    pub workflow: String,
    /// Its state, as it stands in the tables.
    pub status: &'static str,
    /// Why it is in that state.
    pub reason: Option<String>,
    /// What it returned.
    pub output: Option<Vec<u8>>,
    /// When its code ran first.
    pub started_at: Option<DateTime<Utc>>,
    /// Version that it began with; none: it has not begun.
    pub code_version: Option<u32>,
    /// By what it is found.
    pub attributes: Map<String, Value>,
    /// From when its code may run; none: it is held, over, or waits for something else.
    pub wake_at: Option<DateTime<Utc>>,
    /// Wake-ups so far.
    pub wake_seq: i64,
    /// Claims so far.
    pub token: i64,
    /// The claim that holds it.
    pub claim: Option<RunClaim>,
    /// Holders in a row that died on it.
    pub attempts: u16,
    /// How it is to end.
    pub stopping: Option<&'static str>,
    /// It began with the steps of another.
    pub repeats: bool,
}

impl RunView {
    pub(super) fn of(run: &Run) -> Self {
        Self {
            id: run.id(),
            workflow: run.request.workflow.clone(),
            status: run.status.as_str(),
            reason: run.reason.clone(),
            output: run.output.clone(),
            started_at: run.started_at,
            code_version: run.code_version,
            attributes: run.attributes.clone(),
            wake_at: run.ready.map(|ready| ready.at),
            wake_seq: run.wake_seq,
            token: run.token,
            claim: run.holder.map(|holder| RunClaim {
                run: run.id(),
                token: run.token,
                claim_id: holder.claim_id,
            }),
            attempts: run.attempts,
            stopping: run.stop.as_ref().map(|stop| stop.status.as_str()),
            repeats: run.repeats.is_some(),
        }
    }
}

/// A signal as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalView {
    /// Number in its run.
    pub seq: i64,
    /// Its name.
    pub name: String,
    /// Exact bytes of a JSON document.
    pub payload: Vec<u8>,
    /// Path of the step that took it; none: it waits.
    pub consumed_by: Option<String>,
}

/// One change of a run's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunChange {
    /// State before; none: it came into being.
    pub from: Option<&'static str>,
    /// State after.
    pub to: &'static str,
    /// For the end of a claim: its token.
    pub token: Option<i64>,
    /// For the end of a claim: who held it.
    pub replica: Option<Uuid>,
    /// For the end of a claim: when it began.
    pub since: Option<DateTime<Utc>>,
    /// Why.
    pub reason: Option<String>,
}
