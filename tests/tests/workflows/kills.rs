//! Replicas die again and again under many runs, and each does what it was to do.

use lockgate_tests::chaos_steps::create_effects;
use lockgate_tests::cluster::{Cluster, RECOVERY};
use lockgate_tests::invariants::{liveness_violations, safety_violations};
use lockgate_tests::replica::{PATIENCE, Replica};
use lockgate_tests::wait_until;
use serde_json::{Value, json};
use uuid::Uuid;

const RUNS: i64 = 80;
const KILLS: i64 = 9;
const REPLICAS: usize = 3;
/// Effects of each.
const NAMES: i64 = 6;
const BOOKED: i64 = 2;

/// Runs of every kind: with naps and without, with a fan-out, without a signal, with longer steps.
fn plan(number: i64) -> Value {
    let mut plan = json!({"steps": 3, "step_ms": 150, "transactions": BOOKED, "nap_ms": 1_200, "signal_ms": 90_000});
    match number % 4 {
        0 => plan["nap_ms"] = json!(0),
        1 => plan["items"] = json!(600),
        2 => plan["signal_ms"] = Value::Null,
        _ => plan["step_ms"] = json!(400),
    }
    plan
}

async fn count(cluster: &Cluster, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&cluster.pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_transactions_happen_once_while_replicas_are_killed() {
    let cluster = Cluster::new().await;
    create_effects(&cluster.pool).await;
    let url = cluster.url().to_owned();
    let cluster = cluster.with("LOCKGATE_CHAOS_EFFECTS", &url);
    for number in 0..RUNS {
        cluster.start("chaos-steps", plan(number)).await;
    }
    // A third is told before it asks; each is told once.
    let tell = "select count(lockgate.signal_run(id, 'go', to_jsonb(id), id::text)) from
                  (select id, row_number() over (order by id) as n from lockgate.task_runs) r where n % 3 = 0";
    assert!(count(&cluster, tell).await > 0);
    let mut replicas: [Replica; REPLICAS] = std::array::from_fn(|_| cluster.replica());
    for killed in 0..KILLS {
        let steps = "select count(*) from lockgate.run_steps where status <> 'open'";
        let before = count(&cluster, steps).await;
        wait_until(PATIENCE, "the runs move", async || {
            count(&cluster, steps).await > before + 20
        })
        .await;
        let replica = &mut replicas[usize::try_from(killed).unwrap() % REPLICAS];
        replica.kill();
        *replica = cluster.replica();
        if killed == KILLS / 2 {
            let tell = "select count(lockgate.signal_run(id, 'go', to_jsonb(id), id::text)) from lockgate.task_runs";
            assert_eq!(count(&cluster, tell).await, RUNS);
        }
    }
    let over = "select count(*) from lockgate.task_runs where status = 'completed'";
    wait_until(PATIENCE, "all runs are completed", async || {
        count(&cluster, over).await == RUNS
    })
    .await;
    assert_eq!(safety_violations(&cluster.pool).await, [""; 0]);
    assert_eq!(liveness_violations(&cluster.pool, RECOVERY).await, [""; 0]);
    let untold =
        "select count(*) from lockgate.task_runs where convert_from(output, 'UTF8')::json ->> 'signal' <> id::text";
    assert_eq!(count(&cluster, untold).await, 0);
    let effects: Vec<(Uuid, i64, i64, i64)> = sqlx::query_as(
        "select run_id, count(distinct name), count(*) filter (where name like 'transaction%'), count(*) from effects group by 1",
    )
    .fetch_all(&cluster.pool)
    .await
    .unwrap();
    assert_eq!(effects.len(), usize::try_from(RUNS).unwrap());
    for (run, names, booked, _) in &effects {
        assert_eq!((*names, *booked), (NAMES, BOOKED), "{run}");
    }
    let recovered = "select count(*) from lockgate.transitions where entity = 'run' and reason = 'lease ended'";
    let (recovered, all) = (
        count(&cluster, recovered).await,
        effects.iter().map(|(.., all)| all).sum::<i64>(),
    );
    println!(
        "{KILLS} kills, {recovered} claims recovered, {} steps done again",
        all - RUNS * NAMES
    );
    // Each claim that died takes the one step along that it was at; some must have, or nothing was tested.
    assert!(
        recovered > 0 && (1..=recovered).contains(&(all - RUNS * NAMES)),
        "{recovered} {all}"
    );
}
