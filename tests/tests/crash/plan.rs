//! P: deaths while a run is planned.

use lockgate_tests::cluster::Cluster;
use lockgate_tests::invariants::Comparison;

use crate::{dies_at, dies_at_in};

pub async fn before_the_first_chunk() {
    let (_, found) = dies_at("plan.before_chunk").await;
    nothing_sent_twice(&found);
}

pub async fn mid_plan() {
    // Chunks of two batches, then eight: the second is not the last.
    let small = Cluster::new()
        .await
        .with("LOCKGATE_WORKER_BATCH_SIZE", "100")
        .with("LOCKGATE_WORKER_PLAN_AHEAD", "3");
    let (cluster, found) = dies_at_in(small, "plan.after_chunk:2").await;
    assert_eq!(found.planned, crate::REPORTS);
    let recovered: i64 =
        sqlx::query_scalar("select count(*) from lockgate.transitions where entity = 'run' and reason = 'lease ended'")
            .fetch_one(&cluster.pool)
            .await
            .unwrap();
    assert_eq!(recovered, 1, "it was planned by two");
}

pub async fn before_its_end() {
    let (_, found) = dies_at("plan.before_end").await;
    assert_eq!(found.planned, crate::REPORTS);
}

fn nothing_sent_twice(found: &Comparison) {
    assert_eq!((found.duplicates, found.recovered), (0, 0), "{found}");
}
