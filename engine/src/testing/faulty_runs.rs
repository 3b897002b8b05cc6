//! The verbs of whoever runs code, with a crash on either side of what is durable.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::crashes::{STEP, Write};
use super::faulty::Faulty;
use crate::lifecycle::{
    Act, Birth, ClaimPage, Continuation, EndedChild, Ending, FleetError, LetGo, LimitedClaim, NewChild, NewPublication,
    NewRun, NewSignal, NewStep, News, Poked, QueueNews, RunClaim, RunId, RunRecord, RunStore, Saved, Signalled,
    Started, Transacted, TransactionWork, WorkRun,
};

const START: &str = "start";

fn step_write(step: &NewStep) -> Write {
    Write::new(step.claim.run, format!("{STEP}{}", step.path))
}

fn ending_write(ending: &Ending) -> Write {
    let what = match &ending.act {
        Act::Complete { .. } => "end".to_owned(),
        Act::Fail { .. } => "failure".to_owned(),
        Act::Wait { waits, .. } => {
            let paths: Vec<&str> = waits.iter().map(|wait| wait.path.as_str()).collect();
            format!(
                "wait for {}",
                if paths.is_empty() {
                    "batches".to_owned()
                } else {
                    paths.join(", ")
                }
            )
        }
        Act::WaitToUndo { .. } => "wait to undo".to_owned(),
        Act::NotUndone { .. } => "not undone".to_owned(),
        Act::Unwound => "unwinding".to_owned(),
        Act::Overrun { .. } => "overrun".to_owned(),
        Act::HandBack { .. } => "hand back".to_owned(),
        Act::Quarantine { .. } => "quarantine".to_owned(),
    };
    Write::new(ending.claim.run, what)
}

#[async_trait]
impl RunStore for Faulty {
    async fn start_runs(&self, page: &[NewRun], again: bool) -> Result<(), FleetError> {
        let writes: Vec<Write> = page.iter().map(|run| Write::new(run.id, START)).collect();
        self.write(&writes, self.store.start_runs(page, again)).await
    }

    async fn start_run(&self, run: &NewRun) -> Result<Started, FleetError> {
        self.write(&[Write::new(run.id, START)], RunStore::start_run(&self.store, run))
            .await
    }

    async fn start_claimed_runs(&self, births: &[&Birth], claim_id: Uuid) -> Result<DateTime<Utc>, FleetError> {
        let writes: Vec<Write> = births.iter().map(|birth| Write::new(birth.run.id, START)).collect();
        self.write(&writes, self.store.start_claimed_runs(births, claim_id))
            .await
    }

    async fn claim_runs(&self, page: &ClaimPage) -> Result<Vec<(RunClaim, WorkRun)>, FleetError> {
        self.alive()?;
        let runs = self.store.claim_runs(page).await?;
        self.claimed(&runs, |(claim, _)| claim.run)?;
        Ok(runs)
    }

    async fn claim_limited_runs(&self, page: &ClaimPage) -> Result<LimitedClaim, FleetError> {
        self.alive()?;
        let claimed = self.store.claim_limited_runs(page).await?;
        self.claimed(&claimed.runs, |(claim, _)| claim.run)?;
        Ok(claimed)
    }

    async fn read_claimed_runs(&self, page: &ClaimPage) -> Result<Vec<(RunClaim, WorkRun)>, FleetError> {
        self.alive()?;
        self.store.read_claimed_runs(page).await
    }

    async fn acquit_run(&self, claim: &RunClaim) -> Result<bool, FleetError> {
        self.alive()?;
        self.store.acquit_run(claim).await
    }

    async fn read_record(&self, run: RunId) -> Result<RunRecord, FleetError> {
        self.alive()?;
        self.store.read_record(run).await
    }

    async fn save_steps(&self, group: &[NewStep]) -> Result<Vec<Saved>, FleetError> {
        let writes: Vec<Write> = group.iter().map(step_write).collect();
        self.write(&writes, self.store.save_steps(group)).await
    }

    async fn settle_step(&self, step: &NewStep) -> Result<Saved, FleetError> {
        self.write(&[step_write(step)], self.store.settle_step(step)).await
    }

    async fn settle_select(&self, step: &NewStep, lost: &[String]) -> Result<Saved, FleetError> {
        self.write(&[step_write(step)], self.store.settle_select(step, lost))
            .await
    }

    async fn transact(
        &self,
        step: &NewStep,
        work: &TransactionWork,
        max_result: usize,
    ) -> Result<Transacted, FleetError> {
        let Some(database) = &self.around.database else {
            let why = "this workflow uses ctx.transaction: give the test a database with lockgate::testing::postgres()";
            self.around.missing.note(why);
            return Err(FleetError::Refused(why.to_owned()));
        };
        self.transact_in(database, step, work, max_result, step_write(step))
            .await
    }

    async fn let_go_runs(&self, group: &[Ending]) -> Result<Vec<LetGo>, FleetError> {
        let writes: Vec<Write> = group.iter().map(ending_write).collect();
        self.write(&writes, self.store.let_go_runs(group)).await
    }

    async fn continue_runs(&self, group: &[Continuation]) -> Result<Vec<LetGo>, FleetError> {
        let write = |run: &Continuation| Write::new(run.claim.run, "continuation");
        let writes: Vec<Write> = group.iter().map(write).collect();
        self.write(&writes, self.store.continue_runs(group)).await
    }

    async fn start_children(&self, group: &[NewChild]) -> Result<Vec<bool>, FleetError> {
        let write = |child: &NewChild| Write::new(child.claim.run, format!("start of child {}", child.path));
        let writes: Vec<Write> = group.iter().map(write).collect();
        self.write(&writes, self.store.start_children(group)).await
    }

    async fn ended_children(&self, parent: RunId, paths: &[String]) -> Result<Vec<EndedChild>, FleetError> {
        self.alive()?;
        self.store.ended_children(parent, paths).await
    }

    async fn stop_children(&self, run: RunId) -> Result<(), FleetError> {
        self.write(
            &[Write::new(run, "stop of its children")],
            self.store.stop_children(run),
        )
        .await
    }

    async fn cancel_run(&self, run: RunId, reason: &str) -> Result<(), FleetError> {
        let cancelled = RunStore::cancel_run(&self.store, run, reason);
        self.write(&[Write::new(run, "cancel")], cancelled).await
    }

    async fn publish(&self, group: &[NewPublication]) -> Result<Vec<Saved>, FleetError> {
        let writes: Vec<Write> = group.iter().map(|one| step_write(&one.step)).collect();
        self.write(&writes, self.store.publish(group)).await
    }

    async fn wake_runs(&self, runs: &[RunId]) -> Result<u64, FleetError> {
        let writes: Vec<Write> = runs.iter().map(|run| Write::new(*run, "wake-up")).collect();
        self.write(&writes, self.store.wake_runs(runs)).await
    }

    async fn signal_run(&self, signal: &NewSignal) -> Result<Signalled, FleetError> {
        let write = Write::new(signal.run, format!("signal {}", signal.name));
        self.write(&[write], self.store.signal_run(signal)).await
    }

    async fn poked_runs(&self, runs: &[RunId]) -> Result<Vec<Poked>, FleetError> {
        self.alive()?;
        self.store.poked_runs(runs).await
    }

    async fn read_news(&self, runs: &[RunId]) -> Result<Vec<News>, FleetError> {
        self.alive()?;
        self.store.read_news(runs).await
    }

    async fn read_queues(&self, workflows: &[String]) -> Result<QueueNews, FleetError> {
        self.alive()?;
        self.store.read_queues(workflows).await
    }

    async fn waiting_queues(&self, queues: &[String]) -> Result<Vec<String>, FleetError> {
        self.alive()?;
        self.store.waiting_queues(queues).await
    }

    async fn suspect_queues(&self) -> Result<Vec<String>, FleetError> {
        self.alive()?;
        self.store.suspect_queues().await
    }

    async fn next_due(&self, queues: &[String]) -> Result<Option<Duration>, FleetError> {
        self.alive()?;
        self.store.next_due(queues).await
    }
}
