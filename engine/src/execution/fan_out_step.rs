//! A fan-out of a run that is ours: planned here, its batches sent by whoever has time.

use std::ops::ControlFlow;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::history::Asked;
use super::owner_host::{Left, OwnerHost, done};
use super::planner::{self, PlanEnd};
use crate::lifecycle::{Kind, OpenWait, StepStatus};
use crate::workflow::{Done, FanOut, Place};

/// Polls between looks at a plan that is far ahead of everybody: its run is let go of meanwhile.
const POLLS_APART: u32 = 60;

impl OwnerHost {
    /// Plans a fan-out and waits for its batches, unless its end is recorded.
    pub(super) async fn run_fan_out(
        self: Arc<Self>,
        place: Place,
        fan_out: Arc<dyn FanOut>,
        asked: Asked,
    ) -> anyhow::Result<Done> {
        let path = place.to_string();
        if let Asked::Ended(step) = &asked {
            self.told.waited_away(&place.name, step, self.time());
        }
        let open = match self.comes_to(&path, asked).await {
            ControlFlow::Break(ended) => return ended,
            ControlFlow::Continue(open) => open,
        };
        let known = self.shared.fan_outs.learn(&self.run, &path, fan_out);
        let mut operation = match open {
            Some(_) => self.begin(),
            None => self.begin_new(&path).await?,
        };
        self.lock().has_batches = true;
        loop {
            let planned = tokio::select! {
                planned = planner::plan(&self.shared, &self.held, &known) => planned,
                () = self.unwinding() => {
                    drop(operation);
                    return self.refused(&path).await;
                }
            };
            match planned {
                Ok(PlanEnd::Whole) => break,
                Ok(PlanEnd::FarAhead) => {
                    drop(operation);
                    let later = Some(self.time() + self.shared.settings.poll * POLLS_APART);
                    self.wait_until(wait_of(&path, later), |host| host.is_past(later).then_some(()))
                        .await?;
                    operation = self.begin();
                }
                Ok(PlanEnd::Halted) => {
                    drop(operation);
                    return self.halted(&path).await;
                }
                Ok(PlanEnd::Lost) => return self.leave(Left::Lost).await,
                Ok(PlanEnd::Retry(why)) => return self.leave(Left::Retry(why)).await,
                Err(error) => return self.doom(error.context(format!("planning step {path}"))),
            }
        }
        // Nothing to send, or all of it sent while we planned.
        if let Err(error) = self.shared.fleet.complete_fan_out(self.run.id, &path).await {
            tracing::warn!(name: "fan_out_not_completed", run = %self.run.id, step = path, %error, "a fan-out could not be completed: the sweep does it");
        }
        drop(operation);
        let over = |host: &Self| {
            let state = host.lock();
            let step = state.history.step(&path)?;
            (step.status != StepStatus::Open).then(|| step.clone())
        };
        let step = self.wait_until(wait_of(&path, None), over).await?;
        let now = self.time();
        self.told
            .waited(&place.name, &path, Kind::FanOut, step.started_at..now, now);
        self.told.recorded(&step, false);
        done(step)
    }

    /// The store refused a plan: the run is to stop, and its code comes to its end; or it is paused, and left.
    async fn halted(self: &Arc<Self>, path: &str) -> anyhow::Result<Done> {
        let run = self.held.claim.run;
        let poked = self.shared.runs.poked_runs(&[run]).await.unwrap_or_default();
        if !poked.iter().any(|poked| poked.halted) {
            return self.leave(Left::Halted).await;
        }
        self.unwind(true);
        self.refused(path).await
    }
}

/// A fan-out has had an open row from its beginning.
fn wait_of(path: &str, due_at: Option<DateTime<Utc>>) -> OpenWait {
    OpenWait {
        path: path.to_owned(),
        kind: Kind::FanOut,
        due_at,
        attempts: 0,
    }
}
