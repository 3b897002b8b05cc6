//! Whatever is asked in whatever order, the manager on Postgres answers as the one in memory does (R40.5).
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lockgate::lifecycle::{ManagerError, RunId, RunRequest, TaskRunManager};
use lockgate::memory::MemoryTaskRunManager;
use lockgate::postgres::PostgresTaskRunManager;
use lockgate_tests::TestDatabase;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const LEASE: Duration = Duration::from_secs(3_600);
const HANDLES: usize = 3;
const STEPS: usize = 250;

/// What a verb answered, without the words.
fn kind<T: std::fmt::Debug>(answer: Result<T, ManagerError>) -> String {
    match answer {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{error:?}").split([' ', '(', '{']).next().unwrap().to_owned(),
    }
}

async fn one_step(random_step: &Step, manager: &dyn TaskRunManager, run: RunId) -> String {
    match random_step {
        Step::Claim(number, ids) => kind(manager.claim_batch(run, *number, ids).await),
        Step::Release(number) => kind(manager.release_batch(run, *number).await),
        Step::Recover => kind(manager.recover_stale_ids(run).await),
        Step::Complete => kind(manager.complete_run(run).await),
        Step::Fail => kind(manager.fail_run(run, "no database").await),
    }
}

#[derive(Debug)]
enum Step {
    Claim(i32, Vec<i64>),
    Release(i32),
    Recover,
    Complete,
    Fail,
}

fn next_step(random: &mut StdRng) -> Step {
    let number = random.random_range(1..6);
    match random.random_range(0..100) {
        0..50 => Step::Claim(number, (0..24).filter(|_| random.random_range(0..8) == 0).collect()),
        50..70 => Step::Release(number),
        70..98 => Step::Recover,
        98 => Step::Complete,
        _ if random.random_range(0..3) == 0 => Step::Fail,
        _ => Step::Complete,
    }
}

/// Number, status and items of each batch.
type Shape = Vec<(i32, String, Vec<i64>)>;

async fn stored_shape(test_database: &TestDatabase, run: RunId) -> Shape {
    let shape =
        "select seq, status, array(select item_id from lockgate.batch_items($1) where batch_seq = seq order by 1)
        from lockgate.run_batches where run_id = $1 order by seq";
    sqlx::query_as(shape)
        .bind(run)
        .fetch_all(test_database.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn postgres_answers_as_memory_does() {
    let test_database = TestDatabase::new().await;
    let database = test_database.database();
    let first = lockgate_tests::seed();
    for seed in (0..4).map(|round| first.wrapping_add(round)) {
        let mut random = StdRng::seed_from_u64(seed);
        let (birth, elapsed_s) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let hand = Arc::clone(&elapsed_s);
        let clock = move || birth + Duration::from_secs(hand.load(Ordering::SeqCst));
        let memory = MemoryTaskRunManager::new(LEASE, Arc::new(clock));
        let handles: Vec<_> = (0..HANDLES)
            .map(|_| (memory.handle(), PostgresTaskRunManager::new(database.clone(), LEASE)))
            .collect();
        let request = RunRequest::new("reports");
        let run = request.id;
        memory.try_start_new_run(request.clone()).await.unwrap();
        handles[0].1.try_start_new_run(request).await.unwrap();
        for step_number in 0..STEPS {
            if random.random_range(0..6) == 0 {
                elapsed_s.fetch_add(LEASE.as_secs(), Ordering::SeqCst);
                let end = "update lockgate.run_batches set lease_until = clock_timestamp() where status = 'claimed'";
                sqlx::query(end).execute(test_database.pool()).await.unwrap();
            }
            let (step, (in_memory, on_postgres)) = (next_step(&mut random), &handles[random.random_range(0..HANDLES)]);
            let expected = one_step(&step, in_memory, run).await;
            let answer = one_step(&step, on_postgres, run).await;
            assert_eq!(answer, expected, "seed {seed}, step {step_number}: {step:?}");
            let batches = memory.batches(run).into_iter();
            let expected: Shape = batches
                .map(|seen| (seen.number, seen.state.name().to_owned(), seen.ids))
                .collect();
            let stored = stored_shape(&test_database, run).await;
            assert_eq!(stored, expected, "seed {seed}, after step {step_number}: {step:?}");
        }
    }
}
