//! Limited queues of a size at which looking at everything would be felt, and rates by the database's clock.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lockgate::lifecycle::{ClaimPage, Holds, LetGo, QueueSettings, RunStore};
use lockgate::postgres::Operator;
use lockgate_tests::wait_until;
use sqlx::Row;
use uuid::Uuid;

use crate::{Scene, complete, hand_back, page, store};

impl Scene {
    async fn limit(&self, settings: QueueSettings) {
        let operator = Operator::new(self.database.database(), None);
        operator.set_queue(&settings, Some("a test"), false).await.unwrap();
    }

    /// So many runs that have a tenant or a key.
    async fn backlog(&self, count: u32, columns: &str) {
        self.insert(count, columns).await;
        self.run("analyze lockgate.task_runs").await;
    }

    /// All due at the same instant.
    async fn insert(&self, count: u32, columns: &str) {
        self.run(&format!(
            "insert into lockgate.task_runs (id, workflow, status, origin_id, wake_at, tenant, limit_key)
             select gen_random_uuid(), 'orders', 'queued', gen_random_uuid(), now() - interval '1 hour', {columns}
               from generate_series(1, {count})"
        ))
        .await;
    }

    async fn limited(&self, take: u32) -> Vec<Uuid> {
        let got = self.runs.claim_limited_runs(&page(&["orders"], take)).await.unwrap();
        got.runs.into_iter().map(|(claim, _)| claim.run).collect()
    }
}

/// Somebody pauses a queue before the code that declares its limits runs for the first time.
#[tokio::test]
async fn a_pause_does_not_stand_for_the_limits_that_code_declares() {
    let scene = Scene::new().await;
    let operator = Operator::new(scene.database.database(), None);
    operator.pause_queue("orders", Some("not yet")).await.unwrap();
    let declared = QueueSettings::new("orders").max_running(7);
    for answer in ["new", "known"] {
        let told = operator
            .set_queue(&declared, Some("declared by code"), true)
            .await
            .unwrap();
        assert_eq!(told, answer);
    }
    let set = "select max_running || ' ' || (paused_at is not null) from lockgate.queues";
    assert_eq!(scene.value::<String>(set).await, "7 true");
    // What somebody set to nothing is set.
    operator
        .set_queue(&QueueSettings::new("orders"), None, false)
        .await
        .unwrap();
    assert_eq!(operator.set_queue(&declared, None, true).await.unwrap(), "known");
}

#[tokio::test]
async fn ten_thousand_runs_of_a_full_key_hold_up_no_other_key() {
    let scene = Scene::new().await;
    scene.limit(QueueSettings::new("orders").max_per_key(1)).await;
    scene.backlog(10_000, "null, 'full'").await;
    assert_eq!(scene.limited(64).await.len(), 1);
    let others: BTreeSet<Uuid> = [scene.start().await, scene.start().await].into();
    scene
        .run("update lockgate.task_runs set limit_key = 'free' where limit_key is null")
        .await;
    let begun = Instant::now();
    let got = scene.limited(64).await;
    assert!(got.len() == 1 && others.contains(&got[0]), "{got:?}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    assert!(scene.limited(64).await.is_empty());
    scene.holds().await;
}

#[tokio::test]
async fn a_thousand_full_keys_hold_up_no_other_key() {
    let scene = Scene::new().await;
    scene.limit(QueueSettings::new("orders").max_per_key(1)).await;
    scene.backlog(1_000, "null, 'key ' || generate_series").await;
    scene.backlog(1_000, "null, 'key ' || generate_series").await;
    let mut first = 0;
    for _ in 0..100 {
        let got = scene.limited(64).await.len();
        first += got;
        if first == 1_000 {
            break;
        }
    }
    assert_eq!(first, 1_000, "one of each key");
    let free = scene.start().await;
    scene
        .run("update lockgate.task_runs set limit_key = 'zz' where limit_key is null")
        .await;
    // More keys than one look takes: the next looks go on behind.
    let mut found = Vec::new();
    for _ in 0..8 {
        found.extend(scene.limited(64).await);
    }
    assert_eq!(found, [free]);
    scene.holds().await;
}

#[tokio::test]
async fn ten_runs_of_a_tenant_are_served_at_once_beside_a_hundred_thousand() {
    let scene = Scene::new().await;
    scene.limit(QueueSettings::new("orders").max_running(64).fair()).await;
    scene.backlog(100_000, "'large', null").await;
    scene.backlog(10, "'small', null").await;
    let begun = Instant::now();
    scene.limited(32).await;
    let served = "select count(*) from lockgate.task_runs where tenant = 'small' and claim_id is not null";
    assert_eq!(scene.value::<i64>(served).await, 10);
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    assert_eq!(scene.limited(64).await.len(), 32, "what small leaves is for large");
    scene.holds().await;
}

#[tokio::test]
async fn one_tenant_with_much_among_many_with_little_need_not_wait_for_a_poll() {
    let scene = Scene::new().await;
    scene.limit(QueueSettings::new("orders").fair()).await;
    scene.backlog(98, "'tenant ' || generate_series, null").await;
    scene.backlog(1_000, "'large', null").await;
    let mut got = scene.runs.claim_limited_runs(&page(&["orders"], 500)).await.unwrap();
    assert!((99..500).contains(&got.runs.len()), "{}", got.runs.len());
    let mut all = got.runs.len();
    while got.again.is_some() && all < 1_098 {
        got = scene.runs.claim_limited_runs(&page(&["orders"], 500)).await.unwrap();
        all += got.runs.len();
    }
    assert!(all >= 1_098 || got.runs.len() == 500, "it was left at {all}");
    scene.holds().await;
}

/// Index entries of all that is ready, and of turns, that were read so far.
async fn entries(scene: &Scene) -> (i64, i64) {
    let read = async |index: &str| {
        let read = "select coalesce(sum(idx_tup_read), 0)::bigint from pg_stat_user_indexes where indexrelname = ";
        scene.value::<i64>(&format!("{read}'{index}'")).await
    };
    (read("task_runs_ready").await, read("task_runs_turns").await)
}

/// By their own index, also in plans that were made while nothing waited: in new tables, or when all there was had ended.
#[tokio::test]
async fn turns_are_not_found_by_going_through_all_that_wait() {
    const ENDED: &str =
        "update lockgate.task_runs set status = 'completed', wake_at = null, finished_at = clock_timestamp()";
    for had in [0, 20_000] {
        let scene = Scene::new().await;
        scene.limit(QueueSettings::new("orders").fair()).await;
        scene.backlog(had, "'tenant ' || generate_series % 100, null").await;
        scene.run(ENDED).await;
        scene.run("vacuum analyze lockgate.task_runs").await;
        let claims = store(&scene.database);
        let most = page(&["orders"], 64);
        assert!(claims.claim_limited_runs(&most).await.unwrap().runs.is_empty());
        // Nobody says to the planner that something waits now.
        scene.insert(20_000, "'tenant ' || generate_series % 100, null").await;
        for _ in 0..3 {
            let page = page(&["orders"], 64);
            assert_eq!(claims.claim_limited_runs(&page).await.unwrap().runs.len(), 64);
        }
        // The server counts what a session has read when that ends, at the latest.
        drop(claims);
        wait_until(Duration::from_secs(30), "what was read is counted", async || {
            entries(&scene).await.1 > 0
        })
        .await;
        // Each look reads the first 512 of all that is ready.
        let (ready, turns) = entries(&scene).await;
        assert!(
            ready < 5_000 && turns < 10_000,
            "{had} before: {ready} of ready, {turns} of turns"
        );
    }
}

/// Somebody looks at it for long: the others that hold a place go on all the same, and as many as there is room for, no more.
#[tokio::test]
async fn a_run_that_goes_on_in_its_place_is_hidden_by_no_other_that_is_locked() {
    let scene = Scene::new().await;
    scene
        .limit(QueueSettings::new("orders").max_running(3).holds(Holds::Run))
        .await;
    let mut started = Vec::new();
    for _ in 0..4 {
        started.push(scene.start().await);
    }
    let page_of = |most| page(&["orders"], most);
    let got = scene.runs.claim_limited_runs(&page_of(10)).await.unwrap();
    assert_eq!(got.runs.len(), 3, "as many as have a place");
    for (claim, _) in &got.runs {
        assert_eq!(scene.let_go(*claim, hand_back()).await, LetGo::Done);
    }
    let mut looks = scene.database.pool().begin().await.unwrap();
    let lock = "select id from lockgate.task_runs where id = $1 for update";
    let first: Uuid = sqlx::query_scalar(lock)
        .bind(started[0])
        .fetch_one(&mut *looks)
        .await
        .unwrap();
    assert_eq!(first, started[0]);
    assert_eq!(scene.limited(1).await, started[1..2]);
    assert_eq!(scene.limited(10).await, started[2..3], "the fourth has no place");
    looks.rollback().await.unwrap();
    assert_eq!(scene.limited(10).await, started[..1]);
    assert!(scene.limited(10).await.is_empty());
    scene.holds().await;
}

/// In no stretch of time, by the database's clock, more came than its length and the burst allow; a run's instant lies
/// somewhere within its claim, whose length counts beside.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rate_holds_for_two_replicas_that_race() {
    let scene = Scene::new().await;
    let (rate, burst) = (200.0, 20);
    scene
        .limit(QueueSettings::new("orders").rate_per_s(rate).burst(burst))
        .await;
    scene.backlog(5_000, "null, null").await;
    let over = Instant::now() + Duration::from_secs(4);
    let race = (0..2).map(|_| {
        let store = store(&scene.database);
        async move {
            let (mut claims, mut longest) = (0, Duration::ZERO);
            // Also one that was held up for all of that time comes to its share.
            while Instant::now() < over || claims == 0 {
                let asked = Instant::now();
                let got = store.claim_limited_runs(&page(&["orders"], 50)).await.unwrap();
                longest = longest.max(asked.elapsed());
                claims += got.runs.len();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            (claims, longest)
        }
    });
    let (claims, longest): (Vec<usize>, Vec<Duration>) = futures::future::join_all(race).await.into_iter().unzip();
    assert!(claims.iter().all(|claims| *claims > 0), "{claims:?}");
    let longest = longest.iter().max().unwrap().as_secs_f64();
    let rows = sqlx::query(
        "select extract(epoch from claimed_at)::float8 as at from lockgate.task_runs where claimed_at is not null order by 1",
    );
    let rows = rows.fetch_all(scene.database.pool()).await.unwrap();
    let times: Vec<f64> = rows.iter().map(|row| row.get("at")).collect();
    assert_eq!(times.len(), claims.iter().sum::<usize>());
    for (first, from) in times.iter().enumerate() {
        for (last, to) in times.iter().enumerate().skip(first) {
            let allowed = f64::from(burst) + rate * (to - from + longest) + 1.0;
            let came = (last - first + 1) as f64;
            assert!(came <= allowed, "{came} in {} s, allowed {allowed}", to - from);
        }
    }
    // And tokens come: more than there were to begin with.
    assert!(times.len() > burst as usize, "{}", times.len());
}

#[tokio::test]
async fn a_place_is_never_held_by_nobody() {
    let scene = Scene::new().await;
    scene.limit(QueueSettings::new("orders").max_running(2)).await;
    scene.backlog(6, "null, null").await;
    let holding = "select holding from lockgate.list_queues('orders')";
    // Whatever ends a claim frees its place: a death, a stop, a pause, an end.
    scene.limited(10).await;
    assert_eq!(scene.value::<i64>(holding).await, 2);
    scene.everybody_dies().await;
    assert_eq!(scene.value::<i64>(holding).await, 0);
    let got = scene.runs.claim_limited_runs(&page(&["orders"], 10)).await.unwrap();
    scene
        .run(&format!("select lockgate.cancel_run('{}')", got.runs[0].0.run))
        .await;
    assert_eq!(scene.value::<i64>(holding).await, 2, "its code still runs");
    scene.everybody_dies().await;
    assert_eq!(scene.value::<i64>(holding).await, 0);
    let got = scene.runs.claim_limited_runs(&page(&["orders"], 10)).await.unwrap();
    for (claim, _) in &got.runs {
        scene.let_go(*claim, complete()).await;
    }
    assert_eq!((got.runs.len(), scene.value::<i64>(holding).await), (2, 0));
    scene.holds().await;
}

#[tokio::test]
async fn whoever_finds_the_gate_locked_is_told_to_come_again() {
    let scene = Scene::new().await;
    scene.limit(QueueSettings::new("orders").max_running(2)).await;
    scene.start().await;
    let mut transaction = scene.database.pool().begin().await.unwrap();
    sqlx::query("select from lockgate.queues for update")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let asked: ClaimPage = page(&["orders"], 10);
    let got = scene.runs.claim_limited_runs(&asked).await.unwrap();
    assert!(got.runs.is_empty() && got.again.is_some(), "{got:?}");
    transaction.rollback().await.unwrap();
    assert_eq!(scene.limited(10).await.len(), 1);
}

#[tokio::test]
async fn what_is_done_to_queues_is_audited_with_who_and_why() {
    let scene = Scene::new().await;
    for act in [
        "set_queue('orders', max_running => 5, reason => 'too many', actor => 'mia')",
        "pause_queue('orders', 'down', 'mia')",
        "pause_queue('orders', 'again', 'tom')",
        "resume_queue('orders', 'up', 'mia')",
        "remove_queue('orders', 'over', 'mia')",
    ] {
        scene.run(&format!("select lockgate.{act}")).await;
    }
    let audit: String = scene
        .value(
            "select string_agg(concat_ws(' ', from_status, to_status, split_part(actor, ' for ', 2), reason), '; ' order by id)
               from lockgate.transitions where entity = 'queue' and key = 'orders'",
        )
        .await;
    assert_eq!(
        audit,
        "set mia too many: max_running 5, holds code; active paused mia down; paused active mia up; set removed mia over"
    );
    for (wrong, why) in [
        ("set_queue('q', max_running => 0)", "at least 1"),
        ("set_queue('q', max_running => 1, max_per_key => 2)", "never be reached"),
        ("set_queue('q', rate_per_s => -1)", "from 0.000001"),
        ("set_queue('q', burst => 5)", "limits nothing"),
        ("set_queue('q', holds => 'for ever')", "code or run"),
        ("set_queue('')", "1 to 200 characters"),
        ("set_queue(repeat('x', 201))", "1 to 200 characters"),
        ("set_queue('q', max_attempt => '1 millisecond')", "from a second"),
    ] {
        let sql = sqlx::AssertSqlSafe(format!("select lockgate.{wrong}"));
        let error = sqlx::query(sql).execute(scene.database.pool()).await.unwrap_err();
        assert!(error.to_string().contains(why), "{wrong}: {error}");
    }
    assert_eq!(scene.value::<i64>("select count(*) from lockgate.queues").await, 0);
}
