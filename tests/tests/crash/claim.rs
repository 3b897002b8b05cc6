//! C: deaths and lost answers around a claim (R40.6).

use lockgate_tests::cluster::Cluster;
use lockgate_tests::proxy::Proxy;
use serde_json::json;

use crate::{dies_at, dies_at_in};

pub async fn before_commit() {
    // In pooler mode the claim is in an explicit transaction, which is open at that point.
    let cluster = Cluster::new().await.with("LOCKGATE_DATABASE_POOLER_MODE", "true");
    let (_, found) = dies_at_in(cluster, "claim.before_commit").await;
    assert_eq!(
        (found.duplicates, found.recovered),
        (0, 0),
        "a claim that was not committed was recovered: {found}"
    );
}

pub async fn after_commit() {
    let (_, found) = dies_at("claim.after_commit").await;
    assert!(found.recovered >= 1, "{found}");
}

pub async fn answer_lost() {
    let cluster = Cluster::new().await.patient();
    let proxy = Proxy::before(cluster.url()).await;
    proxy.lose_reply("Claims the next batch of a run", 3);
    let run = cluster.start("chaos-items", json!({"items": 2_000})).await;
    let _replica = cluster.replica_with(&[("DATABASE_URL", proxy.url()), ("DATABASE_URL_DIRECT", cluster.url())]);
    let found = cluster.completes(run).await;
    assert_eq!(proxy.cut(), 3);
    assert_eq!(
        (found.duplicates, found.recovered),
        (0, 0),
        "its own claim was not found again: {found}"
    );
}
