//! What a run shows while it is under way.

use std::time::Duration;

use lockgate::Engine;
use lockgate::client::{Client, RunError};
use lockgate_tests::beside::InProcess;
use lockgate_tests::bounded::{Loading, Progress};
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::{TestDatabase, wait_until};
use uuid::Uuid;

/// Each replay meets what it has shown, and writes nothing of it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_run_shows_is_read_while_it_is_under_way_and_afterwards() {
    let place = TestDatabase::new().await;
    let engine = Engine::builder().workflow(Loading);
    let _replica = InProcess::start(&engine, place.url(), |_| {});
    let client = Client::new(place.database());
    let run = client.start::<Loading>(&()).send().await.unwrap();
    for done in 0..3 {
        wait_until(PATIENCE, "it shows how far it is", async || {
            run.shown("progress").await.unwrap() == Some(Progress { done })
        })
        .await;
        assert_eq!(run.shown::<String>("part 1").await.unwrap(), None);
        run.signal("next", &()).await.unwrap();
    }
    tokio::time::timeout(Duration::from_secs(60), run.result())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(run.shown("progress").await.unwrap(), Some(Progress { done: 3 }));
    assert_eq!(run.shown::<String>("part 2").await.unwrap().as_deref(), Some("loaded"));
    let misfit = run.shown::<u32>("progress").await.unwrap_err().to_string();
    assert!(misfit.contains("shows does not fit: progress: "), "{misfit}");
    let nobody = client.run::<()>(Uuid::nil()).shown::<u32>("progress").await;
    assert!(matches!(nobody, Err(RunError::Unknown(_))));
    let rows = "select count(*) from lockgate.run_steps where kind = 'show' and run_id = $1";
    let rows: i64 = sqlx::query_scalar(rows)
        .bind(run.id())
        .fetch_one(place.pool())
        .await
        .unwrap();
    assert_eq!(rows, 6);
    let all = "select string_agg(name || ' ' || value, ', ' order by name) from lockgate.shown($1)";
    let all: String = sqlx::query_scalar(all)
        .bind(run.id())
        .fetch_one(place.pool())
        .await
        .unwrap();
    assert_eq!(all, r#"part 1 "loaded", part 2 "loaded", progress {"done": 3}"#);
}
