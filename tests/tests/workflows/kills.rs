//! Replicas die again and again under many runs, and each does what it was to do, or undoes it (RC.1).

use std::collections::BTreeSet;

use lockgate_tests::chaos_steps::create_effects;
use lockgate_tests::cluster::{Cluster, RECOVERY};
use lockgate_tests::invariants::{liveness_violations, safety_violations};
use lockgate_tests::replica::{PATIENCE, Replica};
use lockgate_tests::wait_until;
use serde_json::{Value, json};
use uuid::Uuid;

/// How many runs there are, and how often a replica dies under them; the long tests have the time for more.
#[derive(Clone, Copy)]
struct Size {
    runs: i64,
    kills: i64,
}

const SHORT: Size = Size { runs: 80, kills: 9 };
const LONG: Size = Size { runs: 240, kills: 20 };
/// One of so many fails at its end, and undoes what it did.
const FAILING: i64 = 5;
const REPLICAS: usize = 3;
/// Parents beside them, each with so many children, which publish and go on as others.
const FAMILIES: i64 = 8;
const CHILDREN: i64 = 3;
const MAILS: i64 = 2;
/// Effects of each.
const NAMES: i64 = 6;
const BOOKED: i64 = 2;
/// Of one that fails: each that is undone is two.
const UNDOABLES: i64 = 3;
const ENTERED: i64 = 1;

/// Every second one has a signal race against so long.
const RACE_MS: u64 = 400;

impl Size {
    fn of_suite() -> Self {
        match std::env::var_os("LOCKGATE_LONG") {
            Some(_) => LONG,
            None => SHORT,
        }
    }

    fn failing(self) -> i64 {
        self.runs / FAILING
    }
}

/// Runs of every kind: with naps and without, with a fan-out, without a signal, with longer steps, with a race, with a failure.
fn plan(number: i64) -> Value {
    let mut plan = json!({"steps": 3, "step_ms": 150, "transactions": BOOKED, "nap_ms": 1_200, "signal_ms": 600_000});
    match number % 4 {
        0 => plan["nap_ms"] = json!(0),
        1 => plan["items"] = json!(600),
        2 => plan["signal_ms"] = Value::Null,
        _ => plan["step_ms"] = json!(400),
    }
    if number % 2 == 1 {
        plan["race_ms"] = json!(RACE_MS);
    }
    if number % FAILING == 0 {
        plan["fails"] = json!(true);
        plan["undoables"] = json!(UNDOABLES);
        plan["undoable_transactions"] = json!(ENTERED);
    }
    plan
}

async fn count(cluster: &Cluster, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&cluster.pool).await.unwrap()
}

/// One by one: a statement that signals many holds all of them, and the engine's groups and it could wait for each other.
async fn tell(cluster: &Cluster, whom: &'static str, signal: &'static str) -> i64 {
    let runs: Vec<Uuid> = sqlx::query_scalar(whom).fetch_all(&cluster.pool).await.unwrap();
    for run in &runs {
        sqlx::query(signal).bind(run).execute(&cluster.pool).await.unwrap();
    }
    runs.len() as i64
}

const GO: &str = "select lockgate.signal_run($1, 'go', to_jsonb($1::uuid), $1::text)";
const FIRST: &str = "select lockgate.signal_run($1, 'first', to_jsonb($1::uuid), 'first')";

/// A third is told before it asks; each is told once. Of those that race a half has its signal before they do.
async fn tell_some(cluster: &Cluster) {
    let third =
        "select id from (select id, row_number() over (order by id) as n from lockgate.task_runs) r where n % 3 = 0";
    assert!(tell(cluster, third, GO).await > 0);
    let quarter =
        "select id from (select id, row_number() over (order by id) as n from lockgate.task_runs) r where n % 4 = 0";
    assert!(tell(cluster, quarter, FIRST).await > 0);
}

/// A quarter of those that race never has its signal.
async fn tell_all(cluster: &Cluster, runs: i64) {
    let all = "select id from lockgate.task_runs where workflow = 'chaos-steps'";
    assert_eq!(tell(cluster, all, GO).await, runs);
    let some = "select id from
                  (select id, row_number() over (order by id) as n from lockgate.task_runs
                    where workflow = 'chaos-steps') r where n % 8 <> 2";
    assert_eq!(tell(cluster, some, FIRST).await, runs - runs / 8);
}

/// Waits until they have done something, or have nothing to do: on a machine that was away meanwhile they all wait to be told.
async fn runs_move(cluster: &Cluster) -> bool {
    let steps = "select count(*) from lockgate.run_steps where status <> 'open'";
    let busy = "select (select count(*) from lockgate.run_steps where status = 'open' and kind = 'fan_out')
        + (select count(*) from lockgate.task_runs
            where claim_id is not null or wake_at < clock_timestamp() + interval '1 minute')";
    let before = count(cluster, steps).await;
    let mut moves = false;
    wait_until(PATIENCE, "the runs move, or wait", async || {
        moves = count(cluster, steps).await > before + 20;
        moves || count(cluster, busy).await == 0
    })
    .await;
    moves
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_transactions_happen_once_while_replicas_are_killed() {
    let size = Size::of_suite();
    let cluster = Cluster::new().await;
    create_effects(&cluster.pool).await;
    let url = cluster.url().to_owned();
    let cluster = cluster.with("LOCKGATE_CHAOS_EFFECTS", &url);
    for number in 0..size.runs {
        cluster.start("chaos-steps", plan(number)).await;
    }
    tell_some(&cluster).await;
    let family = json!({"children": CHILDREN, "leaf_ms": 300, "publish": MAILS, "rounds": 1});
    for _ in 0..FAMILIES {
        cluster.start("chaos-family", family.clone()).await;
    }
    let mut replicas: [Replica; REPLICAS] = std::array::from_fn(|_| cluster.replica());
    let mut told = false;
    for killed in 0..size.kills {
        let moves = runs_move(&cluster).await;
        let replica = &mut replicas[usize::try_from(killed).unwrap() % REPLICAS];
        replica.kill();
        *replica = cluster.replica();
        if !told && (!moves || killed == size.kills / 2) {
            tell_all(&cluster, size.runs).await;
            told = true;
        }
    }
    let over = "select count(*) from lockgate.task_runs
                 where workflow = 'chaos-steps' and status in ('completed', 'failed')";
    wait_until(PATIENCE, "all runs are over", async || {
        count(&cluster, over).await == size.runs
    })
    .await;
    check_families(&cluster).await;
    check_races(&cluster, size.runs).await;
    check_undone(&cluster, size).await;
    assert_eq!(safety_violations(&cluster.pool).await, [""; 0]);
    assert_eq!(liveness_violations(&cluster.pool, RECOVERY).await, [""; 0]);
    let untold = "select count(*) from lockgate.task_runs
          where workflow = 'chaos-steps' and status = 'completed' and convert_from(params, 'UTF8')::json ->> 'signal_ms' is not null
            and convert_from(output, 'UTF8')::json ->> 'signal' is distinct from id::text";
    assert_eq!(count(&cluster, untold).await, 0);
    check_effects(&cluster, size).await;
}

/// Each had all its effects, transactions once; what was done again is what replicas died of.
async fn check_effects(cluster: &Cluster, size: Size) {
    let effects: Vec<(Uuid, bool, i64, i64, i64)> = sqlx::query_as(
        "select run_id, r.status = 'failed', count(distinct name),
                count(*) filter (where name ~ '^(transaction|enter|strike)'), count(*)
           from effects e join lockgate.task_runs r on r.id = e.run_id and r.workflow = 'chaos-steps'
          where name not in ('told', 'late') group by 1, 2",
    )
    .fetch_all(&cluster.pool)
    .await
    .unwrap();
    assert_eq!(effects.len(), usize::try_from(size.runs).unwrap());
    let mut again = 0;
    for (run, failed, names, booked, all) in &effects {
        // One that fails has no last step.
        let wanted = match failed {
            true => (NAMES - 1 + 2 * (UNDOABLES + ENTERED), BOOKED + 2 * ENTERED),
            false => (NAMES, BOOKED),
        };
        assert_eq!((*names, *booked), wanted, "{run}");
        again += all - names;
    }
    let recovered = "select count(*) from lockgate.transitions where entity = 'run' and reason = 'lease ended'";
    let recovered = count(cluster, recovered).await;
    let undone = "select (count(*) - count(distinct (run_id, name)))::bigint from effects where name like 'undo%'";
    let undone = count(cluster, undone).await;
    println!(
        "{} kills, {recovered} claims recovered, {again} steps done again, {undone} of them undoing",
        size.kills
    );
    // Each claim that died takes the one step along that it was at; some must have, or nothing was tested.
    assert!(recovered > 0 && (1..=recovered).contains(&again), "{recovered} {again}");
}

/// Those that were to fail have, each of their steps that can be undone is, and nothing else is undone.
async fn check_undone(cluster: &Cluster, size: Size) {
    let failed = "select count(*) from lockgate.task_runs
                   where workflow = 'chaos-steps' and status = 'failed' and reason like '%it was to fail%'
                     and (convert_from(params, 'UTF8')::json ->> 'fails')::boolean";
    assert_eq!(count(cluster, failed).await, size.failing());
    let done = "select count(distinct (run_id, name)) from effects where name ~ '^(do|enter) '";
    assert_eq!(count(cluster, done).await, size.failing() * (UNDOABLES + ENTERED));
    let undone = "select count(*) from lockgate.run_steps u
                    join lockgate.run_steps s on s.run_id = u.run_id and u.path = 'undo/' || s.path
                   where s.kind = 'undoable' and s.status = 'completed' and u.status = 'completed'";
    assert_eq!(count(cluster, undone).await, size.failing() * (UNDOABLES + ENTERED));
    let stands = "select count(*) from (
                      select run_id, replace(name, 'do', '') from effects where name ~ '^do '
                      except
                      select run_id, replace(name, 'undo', '') from effects where name ~ '^undo ') e";
    assert_eq!(count(cluster, stands).await, 0, "each is undone");
    let astray = "select count(*) from effects e join lockgate.task_runs r on r.id = e.run_id
                   where e.name ~ '^(undo|strike) ' and r.status <> 'failed'";
    assert_eq!(count(cluster, astray).await, 0, "what completed stands");
}

/// One branch of each won, and did its work; the signal is taken where it won, and free where it lost.
async fn check_races(cluster: &Cluster, runs: i64) {
    let decided = "select count(*) from lockgate.run_steps where kind = 'select' and status = 'completed'";
    assert_eq!(count(cluster, decided).await, runs / 2);
    let winners = "select count(distinct result) from lockgate.run_steps where kind = 'select'";
    assert_eq!(count(cluster, winners).await, 2, "each branch wins");
    let idle = "select count(*) from lockgate.run_steps s
                 where kind = 'select' and not exists (
                       select from effects e where e.run_id = s.run_id
                          and e.name = case convert_from(s.result, 'UTF8') when '0' then 'told' else 'late' end)";
    assert_eq!(count(cluster, idle).await, 0);
    let astray = "select count(*) from lockgate.signals g
                    join lockgate.run_steps s on s.run_id = g.run_id and s.kind = 'select'
                   where g.name = 'first' and (g.consumed_by is not null) <> (convert_from(s.result, 'UTF8') = '0')";
    assert_eq!(count(cluster, astray).await, 0);
}

/// Both lives of each parent had all its children, whose work was done, and what they published was committed once.
async fn check_families(cluster: &Cluster) {
    let lives = 2 * FAMILIES;
    let parents = "select count(*) from lockgate.task_runs
                    where workflow = 'chaos-family' and parent_id is null and status = 'completed'";
    wait_until(PATIENCE, "all parents are completed", async || {
        count(cluster, parents).await == lives
    })
    .await;
    let leaves = "select count(*) from lockgate.task_runs r
                   where workflow = 'chaos-family' and parent_id is not null and status = 'completed'
                     and exists (select from effects e where e.run_id = r.id)";
    assert_eq!(count(cluster, leaves).await, lives * CHILDREN);
    let mails = "select count(*) from lockgate.run_steps s join lockgate.task_runs r on r.id = s.run_id
                  where r.workflow = 'chaos-family' and r.parent_id is null and s.kind = 'publish'";
    assert_eq!(count(cluster, mails).await, lives * MAILS);
    let waiting = "select count(*) from lockgate.outbox";
    wait_until(PATIENCE, "the outbox is sent", async || {
        count(cluster, waiting).await == 0
    })
    .await;
    let sent: BTreeSet<Uuid> = cluster
        .topic
        .sent()
        .await
        .into_iter()
        .filter(|sent| sent.headers.iter().all(|(name, _)| name != "batch-seq"))
        .map(|sent| sent.message_id)
        .collect();
    assert_eq!(sent.len() as i64, lives * MAILS);
}
