//! What running the code of workflows needs of a store: claim pages of runs, record their steps, let go of them.

use std::time::Duration;

use async_trait::async_trait;

use super::fleet::{FleetError, RunClaim, WorkRun};
use super::manager::RunId;
use super::new_run::{NewRun, Started};
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

    /// Claims runs whose code may go on, those that have waited longest first, with their steps and signals.
    async fn claim_runs(&self, page: &ClaimPage) -> Result<Vec<(RunClaim, WorkRun)>, FleetError>;
    /// Reads what a claim whose answer was lost got, if anything.
    async fn read_claimed_runs(&self, page: &ClaimPage) -> Result<Vec<(RunClaim, WorkRun)>, FleetError>;

    /// Records steps, all in one commit or none: a path that has a row, and was not said to end an open one, refuses the
    /// group. Answers in the order given.
    async fn save_steps(&self, group: &[NewStep]) -> Result<Vec<Saved>, FleetError>;
    /// Records one step: ends an open row if there is one, recognises its own earlier write, and adopts another's.
    async fn settle_step(&self, step: &NewStep) -> Result<Saved, FleetError>;

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

    /// Wakes runs that are not over; answers how many.
    async fn wake_runs(&self, runs: &[RunId]) -> Result<u64, FleetError>;
    /// Stores a signal and wakes its run.
    async fn signal_run(&self, signal: &NewSignal) -> Result<Signalled, FleetError>;

    /// What others changed of these runs; those that are gone are left out.
    async fn poked_runs(&self, runs: &[RunId]) -> Result<Vec<Poked>, FleetError>;
    /// What reached these runs.
    async fn read_news(&self, runs: &[RunId]) -> Result<Vec<News>, FleetError>;
    /// How long until the first run of these queues may go on; none: nothing is due by itself.
    async fn next_due(&self, queues: &[String]) -> Result<Option<Duration>, FleetError>;
}
