//! Selects of a run that is ours: which branch won is recorded once, and what the others did is settled with it.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::history::Selected;
use super::owner_host::{Left, OwnerHost};
use super::step_tries::STORE_PAUSE;
use super::worker::jittered;
use crate::lifecycle::{FleetError, Kind};
use crate::workflow::{Place, Race, to_json};

/// Children that are stopped in the statement that records a select; its function bounds them.
const STOPPED_WITH_SELECT: usize = 200;

impl OwnerHost {
    /// How the branches stand.
    pub(super) async fn run_select(
        self: Arc<Self>,
        place: Place,
        count: usize,
        selected: Selected,
    ) -> anyhow::Result<Race> {
        match selected {
            Selected::Open => Ok(Race {
                won: None,
                retraced: Vec::new(),
            }),
            Selected::Diverged(how) => self.leave(Left::Diverged(how)).await,
            Selected::Won(winner, step) => {
                let state = self.lock();
                // How they are undone, only their code says.
                let retraced = (0..count).filter(|number| {
                    let branch = place.branch(*number);
                    *number != winner && state.history.not_undone().any(|step| step.path.starts_with(&branch))
                });
                Ok(Race {
                    won: Some((winner, step.finished_at.unwrap_or(step.started_at))),
                    retraced: retraced.collect(),
                })
            }
        }
    }

    /// Records which branch won; what the others have on its way is written before.
    pub(super) async fn settle_select(
        self: Arc<Self>,
        place: Place,
        winner: usize,
        lost: Vec<String>,
    ) -> anyhow::Result<DateTime<Utc>> {
        let operation = self.begin();
        for prefix in &lost {
            self.written(prefix).await;
        }
        let mut step = self.new_step(place.to_string(), Kind::Select);
        step.result = Some(to_json(&winner)?);
        fail::fail_point!("select.before_commit");
        let saved = loop {
            match self.shared.runs.settle_select(&step, &lost).await {
                // Whether it was committed, the next try finds out.
                Err(error @ (FleetError::Unanswered(_) | FleetError::NotNow(_))) => {
                    tracing::warn!(name: "select_retried", run = %self.run.id, step = step.path, %error, "a select is settled again");
                    tokio::time::sleep(jittered(STORE_PAUSE)).await;
                }
                decided => break decided,
            }
        };
        fail::fail_point!("select.after_commit");
        let at = self.saved(step.into_state(), saved).await?.at;
        self.take_signals_back(&lost).await;
        self.stop_lost_children(&lost).await;
        self.end_fan_outs(&lost).await;
        drop(operation);
        self.undo_branches(lost).await;
        Ok(at)
    }

    /// Signals that the branches took may be waited for again.
    async fn take_signals_back(&self, lost: &[String]) {
        let took = {
            let mut state = self.lock();
            let before = state.taken.len();
            state
                .taken
                .retain(|_, path| !lost.iter().any(|prefix| path.starts_with(prefix)));
            state.taken.len() < before || state.history.took_signals(lost)
        };
        // Nothing else would say so: freeing them wakes nobody.
        if took && !self.hear_news().await {
            let why = "signals that a branch took could not be read again".to_owned();
            self.leave(Left::Retry(why)).await
        }
    }

    /// The rest of the children of the branches, if they are more than are stopped with the select.
    async fn stop_lost_children(&self, lost: &[String]) {
        let is_lost = |path: &&String| lost.iter().any(|prefix| path.starts_with(prefix));
        let left = self.lock().unread.iter().filter(is_lost).count() > STOPPED_WITH_SELECT;
        if left && let Err(error) = self.shared.runs.stop_lost_children(self.run.id, lost).await {
            // The sweep does it.
            tracing::warn!(name: "children_not_stopped", run = %self.run.id, %error, "could not stop the children of branches that lost");
        }
    }

    /// Fan-outs of the branches of which nothing is under way are over.
    async fn end_fan_outs(&self, lost: &[String]) {
        let run = self.run.id;
        let mut known = self.shared.fan_outs.of_run(run);
        known.retain(|known| lost.iter().any(|prefix| known.path.starts_with(prefix)));
        for known in &known {
            if let Err(error) = self.shared.fleet.complete_fan_out(run, &known.path).await {
                tracing::warn!(name: "fan_out_not_completed", %run, step = known.path, %error, "could not complete a fan-out that lost");
            }
        }
        if !known.is_empty() {
            // Whether something of them is still to be sent, while the run sleeps.
            self.hear_news().await;
        }
    }

    /// Reads what reached the run; answers whether its signals were read.
    pub(super) async fn hear_news(&self) -> bool {
        let read = self.shared.runs.read_news(&[self.run.id]).await;
        let heard = read.is_ok();
        let before = self.seen();
        match read {
            Ok(news) => news.into_iter().for_each(|news| self.hear(news)),
            // Letting go is refused as long as the news of a wake-up is not heard, and until then it is read again.
            Err(error) => {
                tracing::warn!(name: "news_not_read", run = %self.run.id, %error, "could not read what reached the run");
                self.held.unheard(before);
            }
        }
        if let Err(error) = self.hear_children().await {
            tracing::warn!(name: "news_not_read", run = %self.run.id, %error, "could not read which children of the run are over");
            self.held.unheard(before);
        }
        heard
    }
}
