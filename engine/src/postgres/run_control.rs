//! What an operator does to runs that were started: tell them something, do them again, delete them, act on many.

use std::time::Duration;

use serde::Deserialize;
use sqlx::Row;
use sqlx::types::Json;
use uuid::Uuid;

use super::control::{LOST_TRIES, Operator};
use super::database::{Database, DatabaseError};
use super::inspect::document;
use crate::inspect::{ActedRuns, NotRepeated, RunAct, RunFilter};
use crate::lifecycle::{Again, LARGEST_PARAMS, NewSignal, RepeatRun, Signalled};

const SIGNAL_RUN: &str = include_str!("../../queries/signal_run.sql");
const REPEAT_RUN: &str = include_str!("../../queries/repeat_run.sql");
const DELETE_RUN: &str = include_str!("../../queries/delete_run.sql");
const ACT_ON_RUNS: &str = include_str!("../../queries/act_on_runs.sql");

/// Runs that one statement acts on: their rows are locked until it commits.
const PAGE: u64 = 500;
/// Looks for runs that fit that one call makes: each is bounded, whatever there is.
const LOOKS: u32 = 200;
/// Runs that are counted at most, about: nobody decides by more.
const COUNTED: u64 = 100_000;

/// Something that is done to many runs.
#[derive(Debug, Clone, PartialEq)]
pub struct BulkAct {
    /// What.
    pub act: RunAct,
    /// To which runs.
    pub filter: RunFilter,
    /// It is meant although every run fits.
    pub all: bool,
    /// A cancel undoes nothing, and takes runs too that are undoing what they did; nothing else can be forced.
    pub force: bool,
    /// Why, for the record.
    pub reason: Option<String>,
    /// To so many at most.
    pub at_most: u64,
    /// Only to runs with higher ids.
    pub after: Option<Uuid>,
}

#[derive(Deserialize)]
struct Answer {
    outcome: String,
    run_id: Option<Uuid>,
    detail: Option<String>,
}

/// Pages of an act that were not answered.
#[derive(Default)]
struct Unanswered {
    /// To so many runs it may have been done.
    runs: u64,
    /// Why the last of them was not.
    last: Option<DatabaseError>,
}

impl Operator {
    /// Tells a run something and wakes it.
    ///
    /// # Errors
    /// The database failed, or refused a name that is empty or longer than 100 bytes, or a payload larger than 64 KiB.
    pub async fn signal_run(&self, signal: &NewSignal) -> Result<Signalled, DatabaseError> {
        send(&self.database, signal, self.actor.as_deref()).await
    }

    /// Starts a run that begins with the steps of one that is over; with patience for answers that are lost. Of one that
    /// went on as others the last is meant, unless it has the step that is named itself.
    ///
    /// # Errors
    /// The database failed; the inner error says why no run was started.
    pub async fn repeat_run(&self, repeat: &RepeatRun) -> Result<Result<Uuid, NotRepeated>, DatabaseError> {
        if let Again::Fork {
            params: Some(params), ..
        } = &repeat.again
            && params.len() > LARGEST_PARAMS
        {
            return Ok(Err(NotRepeated::TooLarge));
        }
        let mut lost = 0;
        loop {
            match self.try_repeat_run(repeat).await {
                // The new run's id was made by the caller, so asking again cannot start it twice.
                Err(error) if error.may_pass() && lost < LOST_TRIES => lost += 1,
                answer => return Ok(judged(repeat, answer?)),
            }
        }
    }

    async fn try_repeat_run(&self, repeat: &RepeatRun) -> Result<Answer, DatabaseError> {
        let (how, params, keep) = match &repeat.again {
            Again::Retry => ("retry", None, true),
            Again::Fork {
                params,
                keep_message_ids,
            } => ("fork", params.clone(), *keep_message_ids),
        };
        let query = self
            .database
            .statement(REPEAT_RUN)
            .bind(repeat.id)
            .bind(repeat.run)
            .bind(how)
            .bind(repeat.from.clone())
            .bind(params)
            .bind(keep)
            .bind(repeat.reason.clone())
            .bind(self.actor.clone());
        let repeated = self.database.transaction(move |connection| {
            Box::pin(async move {
                let row = query.fetch_one(&mut *connection).await?;
                fail::fail_point!("fork.before_commit");
                Ok(row.try_get::<Json<Answer>, _>(0)?.0)
            })
        });
        let answer = repeated.await?;
        fail::fail_point!("fork.after_commit");
        Ok(answer)
    }

    /// Deletes a run that is over; answers `deleted`, `deleting` (retention takes the rest of a large one), `needed` (it
    /// owes messages, or the run that started it or goes on in its place is not over), `unknown`, or the state of one that is not over.
    ///
    /// # Errors
    /// The database failed.
    pub async fn delete_run(&self, run: Uuid, reason: Option<&str>) -> Result<String, DatabaseError> {
        self.ask(DELETE_RUN, run, reason).await
    }

    /// Counts the runs to which something would be done, up to 100,000 or so; like an act it may stop before it has looked
    /// at all, which `next` says.
    ///
    /// # Errors
    /// The database failed, or refused a filter that fits every run without saying so.
    pub async fn count_runs(&self, bulk: &BulkAct) -> Result<ActedRuns, DatabaseError> {
        let mut found = ActedRuns {
            next: bulk.after,
            ..ActedRuns::default()
        };
        for _ in 0..LOOKS {
            found.add(self.act_on_page(bulk, true, found.next, PAGE).await?);
            if found.next.is_none() || found.matched >= COUNTED {
                break;
            }
        }
        Ok(found)
    }

    /// Does something to many runs, page by page: what is done of it stays when a later page fails. Where few of very many
    /// fit it stops before it has looked at all: `next` says from where on to ask again.
    ///
    /// # Errors
    /// As [`Operator::count_runs`], with what was done before.
    pub async fn act_on_runs(&self, bulk: &BulkAct) -> Result<ActedRuns, (ActedRuns, DatabaseError)> {
        let mut done = ActedRuns {
            next: bulk.after,
            ..ActedRuns::default()
        };
        let mut unanswered = Unanswered::default();
        for _ in 0..LOOKS {
            match self.act_on_next_page(bulk, &done, &mut unanswered).await {
                Ok(Some(acted)) => done.add(acted),
                Ok(None) => break,
                Err(error) => return Err((done, unanswered.last.unwrap_or(error))),
            }
            if done.next.is_none() {
                return Ok(done);
            }
        }
        // As many as may be, perhaps, and the caller is not to ask for more.
        match unanswered.last {
            Some(error) => Err((done, error)),
            None => Ok(done),
        }
    }

    /// Acts on the page behind what is done, with patience; none: no more runs may be acted on.
    async fn act_on_next_page(
        &self,
        bulk: &BulkAct,
        done: &ActedRuns,
        unanswered: &mut Unanswered,
    ) -> Result<Option<ActedRuns>, DatabaseError> {
        let mut lost = 0;
        loop {
            let page = PAGE.min(bulk.at_most.saturating_sub(done.matched + unanswered.runs));
            if page == 0 {
                return Ok(None);
            }
            match self.act_on_page(bulk, false, done.next, page).await {
                // To what it was done it is not done again: such a run does not fit any more. But others may be found in its
                // place, so a page that may have been done counts as if it had been.
                Err(error) if error.may_pass() && lost < LOST_TRIES => {
                    lost += 1;
                    if error.is_unanswered() {
                        unanswered.runs += page;
                        unanswered.last = Some(error);
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                answer => return answer.map(Some),
            }
        }
    }

    async fn act_on_page(
        &self,
        bulk: &BulkAct,
        dry_run: bool,
        after: Option<Uuid>,
        page: u64,
    ) -> Result<ActedRuns, DatabaseError> {
        let mut filter = serde_json::json!(bulk.filter);
        filter["all"] = bulk.all.into();
        let query = self
            .database
            .statement(ACT_ON_RUNS)
            .bind(bulk.act.as_str())
            .bind(filter)
            .bind(bulk.reason.clone())
            .bind(self.actor.clone())
            .bind(dry_run)
            .bind(i32::try_from(page).unwrap_or(i32::MAX))
            .bind(after)
            .bind(bulk.force);
        let acted = document(&self.database, query).await?;
        Ok(acted.unwrap_or_default())
    }
}

/// Stores a signal and wakes its run; `actor` is who sends it where the signal does not say.
pub(super) async fn send(
    database: &Database,
    signal: &NewSignal,
    actor: Option<&str>,
) -> Result<Signalled, DatabaseError> {
    let query = database
        .statement(SIGNAL_RUN)
        .bind(signal.run)
        .bind(signal.name.clone())
        .bind(signal.payload.clone())
        .bind(signal.idempotency_key.clone())
        .bind(signal.actor.clone().or_else(|| actor.map(str::to_owned)))
        .bind(signal.reason.clone());
    let answer: String = document(database, query).await?.unwrap_or_default();
    Ok(match answer.as_str() {
        "sent" => Signalled::Sent,
        "known" => Signalled::Known,
        "unknown" => Signalled::Unknown,
        "full" => Signalled::Full,
        _ => Signalled::Over(answer),
    })
}

fn judged(repeat: &RepeatRun, answer: Answer) -> Result<Uuid, NotRepeated> {
    let run = repeat.run;
    let detail = answer.detail.unwrap_or_default();
    let step = || repeat.from.clone().unwrap_or_default();
    Err(match answer.outcome.as_str() {
        "new" | "found" => return Ok(answer.run_id.unwrap_or(repeat.id)),
        "unknown" => NotRepeated::Unknown(run),
        "pruned" => NotRepeated::Pruned(run),
        "not_over" => NotRepeated::NotOver(run, detail),
        "no_code" => NotRepeated::NoCode(run),
        "completed" => NotRepeated::Completed(run),
        "no_step" => NotRepeated::NoStep { run, step: step() },
        "ambiguous" => NotRepeated::Ambiguous {
            run,
            step: step(),
            paths: detail,
        },
        "too_large" => NotRepeated::TooLarge,
        _ => NotRepeated::Held(detail),
    })
}
