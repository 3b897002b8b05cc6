//! The store in memory, with a clock that stands still.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lockgate::inspect::NotRepeated;
use lockgate::lifecycle::{
    Clock, Ended, NewRun, QueueSettings, RepeatRun, RunClaim, RunId, RunStore, Started, StepState,
};
use lockgate::memory::{MemoryRunStore, RunStart, RunView, VirtualClock};
use uuid::Uuid;

use super::world::{ClaimEnd, RunSeen, RunWorld, SignalSeen, Wake};

/// A world in memory.
pub struct MemoryWorld {
    clock: Arc<VirtualClock>,
    store: MemoryRunStore,
}

impl MemoryWorld {
    /// An empty one, whose claims hold for so long.
    #[must_use]
    pub fn new(lease: Duration) -> Self {
        let clock = Arc::new(VirtualClock::new(super::crew::instant()));
        let store = MemoryRunStore::new(clock.clone(), lease);
        Self { clock, store }
    }

    fn see(&self, view: RunView) -> RunSeen {
        let wake = match view.wake_at {
            None => Wake::Never,
            Some(at) if at <= self.clock.now() => Wake::Due,
            Some(_) => Wake::Later,
        };
        RunSeen {
            run: view.id,
            status: view.status.to_owned(),
            reason: view.reason,
            attributes: view.attributes,
            output: view.output,
            code_version: view.code_version,
            wake,
            wake_seq: view.wake_seq,
            token: view.token,
            claim: view.claim,
            attempts: view.attempts,
            stopping: view.stopping.map(str::to_owned),
            repeats: view.repeats,
        }
    }
}

#[async_trait]
impl RunWorld for MemoryWorld {
    fn replica(&self) -> Arc<dyn RunStore> {
        Arc::new(self.store.replica())
    }
    async fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }
    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
    async fn start(&self, start: RunStart) -> Option<RunId> {
        self.store.start_run(start).unwrap()
    }
    async fn start_new(&self, run: &NewRun) -> Started {
        self.replica().start_run(run).await.unwrap()
    }
    async fn set_queue(&self, settings: QueueSettings) {
        self.store.set_queue(settings).unwrap();
    }
    async fn pause_queue(&self, name: &str, paused: bool) {
        if paused {
            self.store.pause_queue(name);
        } else {
            self.store.resume_queue(name);
        }
    }
    async fn end_leases(&self, claim: &RunClaim) {
        self.store.end_leases(claim.claim_id);
    }
    async fn renew(&self, claim: &RunClaim) -> bool {
        self.store.renew_runs(&[*claim]).is_empty()
    }
    async fn sweep(&self) -> u64 {
        self.store.sweep().runs
    }
    async fn settle_stop(&self, run: RunId) -> bool {
        self.store.settle_stop(run)
    }
    async fn fail_claimed(&self, claim: &RunClaim, reason: &str) -> Ended {
        self.store.fail_claimed_run(claim, reason)
    }
    async fn pause(&self, run: RunId) -> String {
        self.store.pause_run(run, "by a test").to_owned()
    }
    async fn resume(&self, run: RunId) -> String {
        self.store.resume_run(run).to_owned()
    }
    async fn cancel(&self, run: RunId) -> String {
        self.store.cancel_run(run, "by a test").to_owned()
    }
    async fn force_cancel(&self, run: RunId) -> String {
        self.store.force_cancel_run(run, "by a test").to_owned()
    }
    async fn repeat(&self, repeat: &RepeatRun) -> Result<RunId, NotRepeated> {
        self.store.repeat_run(repeat)
    }
    async fn open_fan_out(&self, claim: &RunClaim, path: &str) -> Option<StepState> {
        self.store.open_fan_out(claim, path)
    }
    async fn complete_fan_out(&self, run: RunId, path: &str) -> bool {
        self.store.complete_fan_out(run, path, b"{}")
    }
    async fn set_batches(&self, run: RunId, waiting: u32, held: u32) {
        self.store.set_batches(run, waiting, held);
    }
    async fn runs(&self) -> Vec<RunSeen> {
        self.store.views().into_iter().map(|view| self.see(view)).collect()
    }
    async fn steps(&self, run: RunId) -> Vec<StepState> {
        self.store.steps(run)
    }
    async fn signals(&self, run: RunId) -> Vec<SignalSeen> {
        let signals = self.store.signals(run).into_iter();
        signals
            .map(|signal| SignalSeen {
                seq: signal.seq,
                name: signal.name,
                payload: serde_json::from_slice(&signal.payload).unwrap(),
                consumed_by: signal.consumed_by,
            })
            .collect()
    }
    async fn published(&self) -> Vec<(Uuid, Vec<u8>)> {
        let published = self.store.published().into_iter();
        published
            .map(|(_, command)| (command.message_id, command.payload))
            .collect()
    }
    async fn claim_ends(&self, run: RunId) -> Vec<ClaimEnd> {
        let ends = self
            .store
            .changes(run)
            .into_iter()
            .filter(|change| change.since.is_some());
        ends.map(|change| ClaimEnd {
            token: change.token.unwrap(),
            from: change.from.unwrap().to_owned(),
            to: change.to.to_owned(),
            reason: change.reason,
        })
        .collect()
    }
}
