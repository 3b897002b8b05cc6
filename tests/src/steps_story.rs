//! A run of `chaos-steps` on a cluster of its own, and what it did.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use crate::chaos_steps::{Told, create_effects, effects};
use crate::cluster::Cluster;

/// Where a run of `chaos-steps` stands with its effects and claims.
pub struct Story {
    /// Where it runs.
    pub cluster: Cluster,
    /// The run.
    pub run: Uuid,
}

impl Story {
    /// Starts one where no lease has to end, with nobody to run it yet.
    pub async fn begin(plan: Value) -> Self {
        Self::begin_on(Cluster::new().await.patient(), plan).await
    }

    /// Starts one on a cluster with settings of its own.
    pub async fn begin_on(mut cluster: Cluster, plan: Value) -> Self {
        create_effects(&cluster.pool).await;
        let url = cluster.url().to_owned();
        cluster = cluster.with("LOCKGATE_CHAOS_EFFECTS", &url);
        let run = cluster.start("chaos-steps", plan).await;
        Self { cluster, run }
    }

    /// Waits for its end; what it returned, and how often each effect happened.
    pub async fn ends(&self) -> (Told, BTreeMap<String, i64>) {
        self.cluster.completes(self.run).await;
        let output: Vec<u8> = sqlx::query_scalar("select output from lockgate.task_runs where id = $1")
            .bind(self.run)
            .fetch_one(&self.cluster.pool)
            .await
            .unwrap();
        let told = serde_json::from_slice(&output).unwrap();
        (told, effects(&self.cluster.pool, self.run).await)
    }

    /// A number read from the tables.
    pub async fn count(&self, sql: &'static str) -> i64 {
        self.cluster.count(sql, self.run).await
    }

    /// Sends it signal `go`; the answer.
    pub async fn signal(&self, payload: Value) -> String {
        sqlx::query_scalar("select lockgate.signal_run($1, 'go', $2)")
            .bind(self.run)
            .bind(payload)
            .fetch_one(&self.cluster.pool)
            .await
            .unwrap()
    }

    /// What it recorded, path and state, in order.
    pub async fn steps(&self) -> Vec<String> {
        sqlx::query_scalar(
            "select concat_ws(' ', path, status) from lockgate.run_steps where run_id = $1 order by path",
        )
        .bind(self.run)
        .fetch_all(&self.cluster.pool)
        .await
        .unwrap()
    }

    /// How many claims ended because their lease did.
    pub async fn recovered(&self) -> i64 {
        self.count(
            "select count(*) from lockgate.transitions where run_id = $1 and entity = 'run' and reason = 'lease ended'",
        )
        .await
    }
}

/// All happened once, but for those.
///
/// # Panics
/// They did not.
pub fn assert_once_but(effects: &BTreeMap<String, i64>, but: &[(&str, i64)]) {
    for (name, count) in effects {
        let expected = but
            .iter()
            .find(|(again, _)| again == name)
            .map_or(1, |(_, count)| *count);
        assert_eq!(*count, expected, "{name} in {effects:?}");
    }
}
