//! What running the code of workflows needs of a store: claim pages of runs, record their steps, let go of them.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::children::{Continuation, EndedChild, NewChild, NewPublication};
use super::fleet::{FleetError, RunClaim, RunRecord, WorkRun};
use super::manager::RunId;
use super::new_run::{Birth, NewRun, Started};
use super::queues::{LimitedClaim, QueueNews};
use super::steps::{
    ClaimPage, Ending, LetGo, NewSignal, NewStep, News, Poked, Saved, Signalled, Transacted, TransactionWork,
};

/// The verbs of whoever runs the code of workflows. Groups carry writes of many runs, each judged by its own claim.
#[async_trait]
pub trait RunStore: Send + Sync + 'static {
    /// Starts runs without keys, all in one commit or none; asked again, those that are not there. Refused while another
    /// request for one of the same ids is under way.
    async fn start_runs(&self, page: &[NewRun], again: bool) -> Result<(), FleetError>;
    /// Starts one run, or finds the one that answers for it.
    async fn start_run(&self, run: &NewRun) -> Result<Started, FleetError>;
    /// Starts runs without keys, all or none, that are claimed under this id from their first moment on; answers when that
    /// was. [`RunStore::read_claimed_runs`] tells what became of them when the answer is lost.
    async fn start_claimed_runs(&self, births: &[&Birth], claim_id: Uuid) -> Result<DateTime<Utc>, FleetError>;

    /// Claims runs whose code may go on, those that have waited longest first, with their steps and signals; who has more of
    /// them than is read with a page is said to be unread.
    async fn claim_runs(&self, page: &ClaimPage) -> Result<Vec<(RunClaim, WorkRun)>, FleetError>;
    /// Claims runs of one queue that has limits, as many as they allow: the page has one share.
    async fn claim_limited_runs(&self, page: &ClaimPage) -> Result<LimitedClaim, FleetError>;
    /// Reads what a claim whose answer was lost got, if anything.
    async fn read_claimed_runs(&self, page: &ClaimPage) -> Result<Vec<(RunClaim, WorkRun)>, FleetError>;
    /// Takes the suspicion from a run that was claimed as a suspect and that its holder has not died of; answers whether it
    /// is held.
    async fn acquit_run(&self, claim: &RunClaim) -> Result<bool, FleetError>;
    /// Reads what is recorded of one run, whatever it takes.
    async fn read_record(&self, run: RunId) -> Result<RunRecord, FleetError>;

    /// Records steps, all in one commit or none: a path that has a row, and was not said to end an open one, refuses the
    /// group. Answers in the order given.
    async fn save_steps(&self, group: &[NewStep]) -> Result<Vec<Saved>, FleetError>;
    /// Records one step: ends an open row if there is one, recognises its own earlier write, and adopts another's.
    async fn settle_step(&self, step: &NewStep) -> Result<Saved, FleetError>;

    /// Records which branch of a select won, and in the same commit: what is open in the others (paths that begin with one
    /// of these) is dropped, but for what can be undone; signals that their steps took are free again; their fan-outs
    /// are cut short to what has been begun; children that they started are cancelled, but for detached ones, and if they are
    /// many, a page of them. Recognises its own earlier write, and adopts another's.
    async fn settle_select(&self, step: &NewStep, lost: &[String]) -> Result<Saved, FleetError>;

    /// Does a step's work and records it in one transaction; `step` says all but the result, which may have at most so
    /// many bytes.
    async fn transact(
        &self,
        step: &NewStep,
        work: &TransactionWork,
        max_result: usize,
    ) -> Result<Transacted, FleetError>;

    /// Lets go of runs, all in one commit. Answers in the order given.
    async fn let_go_runs(&self, group: &[Ending]) -> Result<Vec<LetGo>, FleetError>;

    /// Ends runs that go on as others and starts those, all in one commit. Answers in the order given.
    async fn continue_runs(&self, group: &[Continuation]) -> Result<Vec<LetGo>, FleetError>;

    /// Starts children, each with the open step that waits for it, all in one commit; asked again it starts none twice.
    /// Answers in the order given whether the parent's claim holds; where it does not, nothing was started.
    async fn start_children(&self, group: &[NewChild]) -> Result<Vec<bool>, FleetError>;
    /// Of the children that these steps of a run wait for, those that are over or not there any more.
    async fn ended_children(&self, parent: RunId, paths: &[String]) -> Result<Vec<EndedChild>, FleetError>;
    /// Cancels the children of a run that is over or asked to stop, but for detached ones, and drops the steps that waited
    /// for them once it is over. What somebody else is at is left to the sweep.
    async fn stop_children(&self, run: RunId) -> Result<(), FleetError>;
    /// Cancels the children that branches of a run started which lost a recorded select, as far as that did not. What somebody
    /// else is at is left to the sweep. A store that cancels all with the select has nothing to do.
    async fn stop_lost_children(&self, _run: RunId, _lost: &[String]) -> Result<(), FleetError> {
        Ok(())
    }
    /// Asks a run, or the one that goes on in its place, to end as cancelled; one that is over stays as it is.
    async fn cancel_run(&self, run: RunId, reason: &str) -> Result<(), FleetError>;

    /// Puts commands into the outbox, each with the step that records it, all in one commit. A path that has a row
    /// publishes nothing and answers as a settled step does. Answers in the order given.
    async fn publish(&self, group: &[NewPublication]) -> Result<Vec<Saved>, FleetError>;

    /// Wakes runs that are not over; answers how many.
    async fn wake_runs(&self, runs: &[RunId]) -> Result<u64, FleetError>;
    /// Lets the runs begin that wait until this one is over, or makes them wait for the one that goes on in its place; what
    /// somebody else is at is left to the sweep. A store whose claims look for such runs has nothing to do.
    async fn wake_behind(&self, _run: RunId) -> Result<(), FleetError> {
        Ok(())
    }
    /// Stores a signal and wakes its run.
    async fn signal_run(&self, signal: &NewSignal) -> Result<Signalled, FleetError>;

    /// What others changed of these runs; those that are gone are left out.
    async fn poked_runs(&self, runs: &[RunId]) -> Result<Vec<Poked>, FleetError>;
    /// What reached these runs.
    async fn read_news(&self, runs: &[RunId]) -> Result<Vec<News>, FleetError>;
    /// What is set for queues, and which queues runs of these workflows wait in.
    async fn read_queues(&self, workflows: &[String]) -> Result<QueueNews, FleetError>;
    /// Which of these queues have a run that may go on.
    async fn waiting_queues(&self, queues: &[String]) -> Result<Vec<String>, FleetError>;
    /// Queues that have runs which holders died on.
    async fn suspect_queues(&self) -> Result<Vec<String>, FleetError>;
    /// How long until the first run of these queues may go on; none: nothing is due by itself.
    async fn next_due(&self, queues: &[String]) -> Result<Option<Duration>, FleetError>;
}
