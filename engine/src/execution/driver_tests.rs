//! Claims by a replica as a whole: what it waits for, and what outlives whom.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::driver;
use super::eager::EagerStarts;
use super::executor::Executor;
use super::run_task_tests::code;
use super::trial::{Journal, Trial, until};
use crate::lifecycle::*;
use crate::local::Beside;
use crate::memory::RunStart;

/// Another run of the same code.
fn another(trial: &Trial) -> RunId {
    let mut start = RunStart::new("tested");
    start.request.params = b"null".to_vec();
    trial.store.start_run(start).unwrap().unwrap()
}

#[tokio::test]
async fn nothing_is_claimed_before_the_limits_of_queues_were_read_once() {
    let journal = Journal::default();
    let noted = journal.clone();
    let trial = Trial::new(code(move |ctx| {
        let journal = noted.clone();
        async move {
            let work = ctx.step("work", move || {
                let journal = journal.clone();
                async move {
                    journal.note("begins");
                    tokio::time::sleep(Duration::from_millis(30)).await;
                    journal.note("ends");
                    anyhow::Ok(())
                }
            });
            work.await?;
            Ok(String::new())
        }
    }));
    let limits = QueueSettings {
        max_running: Some(1),
        ..QueueSettings::new("tested")
    };
    trial.store.set_queue(limits).unwrap();
    let runs = [trial.run, another(&trial)];
    trial.hide_queues(true);
    let driven = tokio::spawn(driver::run(trial.shared.clone()));
    until("it asks again for the queues", || trial.asked_for_queues() >= 3).await;
    assert!(
        trial.store.views().iter().all(|view| view.status == "queued"),
        "{:?}",
        trial.store.views()
    );
    trial.hide_queues(false);
    let is_over = |run: &RunId| trial.store.view(*run).unwrap().status == "completed";
    until("both are over", || runs.iter().all(is_over)).await;
    assert_eq!(journal.notes(), ["begins", "ends", "begins", "ends"], "one at a time");
    trial.shared.stopping.cancel();
    driven.await.unwrap();
}

/// The runtime of the client that starts it is gone before the run has ended, or before its start is answered.
#[test]
fn a_run_that_begins_at_once_outlives_the_runtime_that_started_it() {
    let runtime = || {
        let mut alone = tokio::runtime::Builder::new_multi_thread();
        alone.worker_threads(1).enable_all().build().unwrap()
    };
    let (own, journal) = (runtime(), Journal::default());
    let noted = journal.clone();
    let trial = own.block_on(async {
        Trial::new(code(move |ctx| {
            let journal = noted.clone();
            async move {
                let work = ctx.step("work", move || {
                    journal.note("begins");
                    async {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        anyhow::Ok(())
                    }
                });
                work.await?;
                Ok(String::new())
            }
        }))
    });
    let eager = own.block_on(async { Arc::new(EagerStarts::new(trial.shared.clone())) });
    trial.shared.short_queues.learn("tested", true);
    let begin = |clients: &tokio::runtime::Runtime| {
        let run = NewRun {
            params: b"null".to_vec(),
            ..NewRun::new("tested")
        };
        let (id, seat, eager) = (run.id, eager.admits(&run).unwrap(), eager.clone());
        (id, clients.spawn(async move { eager.begin(run, seat).await }))
    };
    let is_over = |id| trial.store.view(id).unwrap().status == "completed";

    let clients = runtime();
    let (id, begun) = begin(&clients);
    assert!(own.block_on(begun).unwrap());
    own.block_on(until("it has begun", || journal.count("begins") == 1));
    drop(clients);
    own.block_on(until("it is over", || is_over(id)));

    let clients = runtime();
    let (id, _begun) = begin(&clients);
    own.block_on(until("its start is on its way", || trial.asked_for_births() == 2));
    drop(clients);
    trial.answer_birth();
    own.block_on(until("it is over", || is_over(id)));
}

/// A clock that breaks whoever waits by it, but for who looks for work.
struct Broken;

#[async_trait]
impl Clock for Broken {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
    async fn sleep_until(&self, _: DateTime<Utc>) {
        unreachable!("it is broken")
    }
    async fn pause(&self, longest: Duration) {
        tokio::time::sleep(longest).await;
    }
}

#[tokio::test]
async fn what_a_suspect_breaks_is_not_the_look_for_the_next_one() {
    let broken = Arc::new(std::sync::Mutex::new(None));
    let breaks = broken.clone();
    let code = move |ctx: crate::workflow::Context| {
        let first = *breaks.lock().unwrap().get_or_insert(ctx.run_id());
        async move {
            if ctx.run_id() == first {
                ctx.sleep(Duration::from_millis(200)).await?;
            }
            Ok(String::new())
        }
    };
    let first = Trial::new(super::run_task_tests::code(|_| async { Ok(String::new()) }));
    let trial = first.waiting_by(super::run_task_tests::code(code), Arc::new(Broken));
    let runs = [trial.run, another(&trial)];
    for _ in 0..2 {
        let page = ClaimPage {
            claim_id: Uuid::new_v4(),
            shares: vec![Share {
                queue: "tested".to_owned(),
                take: 2,
            }],
            runnable: trial.shared.registry.runnable(),
            suspects: false,
        };
        assert_eq!(trial.store.claim_runs(&page).await.unwrap().len(), 2);
        trial.store.end_all_leases();
        trial.store.sweep();
    }
    let driven = tokio::spawn(driver::run(trial.shared.clone()));
    let is_over = || {
        let first = *broken.lock().unwrap();
        let others = runs.iter().filter(|run| Some(**run) != first);
        first.is_some()
            && others
                .into_iter()
                .all(|run| trial.store.view(*run).unwrap().status == "completed")
    };
    until("the other one is over", is_over).await;
    trial.shared.stopping.cancel();
    driven.await.unwrap();
}

#[tokio::test]
async fn who_drops_a_replica_leaves_no_part_of_it_running() {
    let trial = Trial::new(code(|_| std::future::pending()));
    let executor = Executor {
        shared: trial.shared.clone(),
    };
    let running = tokio::spawn(async move { executor.run(CancellationToken::new()).await });
    until("it is at work", || trial.view().claim.is_some()).await;
    running.abort();
    until("what it held is handed back", || trial.view().claim.is_none()).await;
    until("none of its parts is left", || Arc::strong_count(&trial.shared) == 1).await;
}
