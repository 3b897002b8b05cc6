//! Runs the code of workflows: claims a run, runs its code until it ends or waits, and lets go.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::executor::Shared;
use super::run_task::drive;
use super::worker::jittered;

pub(crate) async fn run(shared: Arc<Shared>) {
    let workflows = shared.workflows();
    let slots = Arc::new(Semaphore::new(shared.settings.runs));
    let tasks = TaskTracker::new();
    let mut idle = 0u32;
    while !shared.stopping.is_cancelled() {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let (claim_id, asked) = (Uuid::new_v4(), Instant::now());
        match shared.fleet.claim_run(claim_id, &workflows).await {
            Ok(Some((claim, run))) => {
                idle = 0;
                let shared = shared.clone();
                tasks.spawn(async move {
                    drive(shared, claim, run, asked).await;
                    drop(slot);
                });
                continue;
            }
            Ok(None) => idle = idle.saturating_add(1),
            // If it was granted, the lease ends and the sweep recovers it.
            Err(error) => tracing::warn!(%error, "could not look for runs"),
        }
        drop(slot);
        let pause = if idle > 5 {
            shared.settings.poll * 2
        } else {
            shared.settings.poll
        };
        tokio::select! {
            () = shared.stopping.cancelled() => {}
            () = shared.hints.runs.notified() => {}
            () = tokio::time::sleep(jittered(pause)) => {}
        }
    }
    tasks.close();
    tasks.wait().await;
}
