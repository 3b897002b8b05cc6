//! `runs`: what people look at and do.

use std::time::Duration;

use uuid::Uuid;

use super::runs_bulk::{How, Target};
use super::runs_show::{detail, proof_text};
use super::{Context, Exit, Failure, Outcome, runs_again, runs_item, runs_list, runs_steps};
use crate::inspect::{ProofAnswer, RunAct, RunSummary, WhyAnswer};
use crate::postgres::Inspector;

/// The proof of a large run looks at every exception of every batch.
const PROOF_PATIENCE: Duration = Duration::from_secs(10 * 60);

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Runs, newest first
    List(runs_list::Args),
    /// One run: its steps, its batches by state, its history
    Show {
        /// The run
        run: Uuid,
        #[command(flatten)]
        steps: runs_steps::Args,
    },
    /// Cancel a run, or all that fit: nothing new begins, batches in flight stop at their next message, what code did it undoes
    Cancel {
        #[command(flatten)]
        target: Target,
        /// Undo nothing, and wait for no code that does; the run's reason then says what was not undone
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        how: How,
    },
    /// Pause a run, or all that fit: nothing more is claimed until it is resumed
    Pause {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        how: How,
    },
    /// Resume a paused or quarantined run, or all that fit
    Resume {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        how: How,
    },
    /// Tell a run something that its code waits for
    Signal(runs_again::SignalArgs),
    /// Do again a run that is over, or all that fit, from the step that failed or from a named one
    Retry(runs_again::RetryArgs),
    /// Start a run like one that is over, with another input if one is given
    Fork(runs_again::ForkArgs),
    /// Delete a run that is over, or all that fit, before retention does
    Delete {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        how: How,
    },
    /// Say why a run is not moving, most important cause first
    Why {
        /// The run
        run: Uuid,
        /// From when a transaction of anybody counts as one that slows everything
        #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = humantime::parse_duration)]
        old_snapshot: Duration,
    },
    /// Say what became of one item; exits with 3 when the run has no such item
    Item(runs_item::Args),
    /// Prove what became of every item; exits with 6 when something does not add up
    Proof {
        /// The run
        run: Uuid,
    },
}

impl Command {
    pub(super) async fn execute(self, context: &Context) -> Outcome {
        match self {
            Self::List(args) => args.execute(context).await,
            Self::Show { run, steps } if steps.steps => steps.execute(context, run).await,
            Self::Show { run, steps } => show(context, run, steps.values).await,
            Self::Cancel { target, force, how } => cancel(context, target, force, how).await,
            Self::Pause { target, how } => act(context, RunAct::Pause, target, how).await,
            Self::Resume { target, how } => act(context, RunAct::Resume, target, how).await,
            Self::Delete { target, how } => act(context, RunAct::Delete, target, how).await,
            Self::Signal(args) => args.execute(context).await,
            Self::Retry(args) => args.execute(context).await,
            Self::Fork(args) => args.execute(context).await,
            Self::Why { run, old_snapshot } => why(context, run, old_snapshot).await,
            Self::Item(args) => args.execute(context).await,
            Self::Proof { run } => proof(context, run).await,
        }
    }
}

async fn cancel(context: &Context, target: Target, force: bool, how: How) -> Outcome {
    if !force {
        return act(context, RunAct::Cancel, target, how).await;
    }
    let Some(run) = target.run else {
        return target.act_on_all(context, RunAct::Cancel, how, true).await;
    };
    let operator = context.operator().await?;
    let status = operator.force_cancel_run(run, how.reason.as_deref()).await;
    acted(
        context,
        run,
        status.map_err(Failure::of_write)?,
        &["cancelled", "stopping"],
    )
}

/// Does something to one run, or to all that fit.
async fn act(context: &Context, act: RunAct, target: Target, how: How) -> Outcome {
    let Some(run) = target.run else {
        return target.act_on_all(context, act, how, false).await;
    };
    let (operator, reason) = (context.operator().await?, how.reason.as_deref());
    let (status, wanted): (_, &[&str]) = match act {
        RunAct::Cancel => (operator.cancel_run(run, reason).await, &["cancelled", "stopping"]),
        RunAct::Pause => (operator.pause_run(run, reason).await, &["paused"]),
        RunAct::Delete => (operator.delete_run(run, reason).await, &["deleted", "deleting"]),
        RunAct::Resume => (
            operator.resume_run(run, reason).await,
            &["queued", "running", "suspended"],
        ),
        RunAct::Retry => return Err(Failure::new(Exit::Usage, "one run is retried by `runs retry`")),
    };
    acted(context, run, status.map_err(Failure::of_write)?, wanted)
}

/// A run that was asked to stop is still what it was until its batches are back.
pub(super) fn state(run: &RunSummary) -> String {
    match (&run.stopping, run.finished_at) {
        (Some(to), None) => format!("{} (becomes {to})", run.status),
        _ => run.status.clone(),
    }
}

async fn show(context: &Context, run: Uuid, values: bool) -> Outcome {
    let found = context
        .inspector()
        .await?
        .show_run(run, values)
        .await?
        .ok_or_else(|| Failure::unknown_run(run))?;
    context.output.done(&found, || detail(&found))
}

fn acted(context: &Context, run: Uuid, status: String, wanted: &[&str]) -> Outcome {
    if status == "unknown" {
        return Err(Failure::unknown_run(run));
    }
    if status == "needed" {
        let needed = format!(
            "run {run} owes messages, or the run that started it is not over, or the one that goes on in its place, or children of it are still to be cancelled"
        );
        return Err(Failure::new(Exit::Conflict, needed).hint(format!("see `undelivered list --run {run}`")));
    }
    if !wanted.contains(&status.as_str()) {
        return Err(
            Failure::new(Exit::Conflict, format!("run {run} is {status}")).hint(format!("see `runs why {run}`"))
        );
    }
    let answer = serde_json::json!({ "run_id": run, "status": status });
    context.output.done(&answer, || format!("{run}\t{status}\n"))
}

async fn why(context: &Context, run: Uuid, old_snapshot: Duration) -> Outcome {
    let facts = context.inspector().await?.why(run, old_snapshot).await?;
    let answer = WhyAnswer::of(run, &facts).ok_or_else(|| Failure::unknown_run(run))?;
    context.output.done(&answer, || {
        let lines: Vec<String> = answer
            .causes
            .iter()
            .map(|cause| super::output::clean(&cause.text) + "\n")
            .collect();
        lines.concat()
    })
}

async fn proof(context: &Context, run: Uuid) -> Outcome {
    let inspector = Inspector::new(context.database_within(PROOF_PATIENCE).await?);
    let Some(proof) = inspector.proof(run).await? else {
        return Err(without_proof(&inspector, run).await?);
    };
    let answer = ProofAnswer::of(proof);
    context.output.one(&answer, || proof_text(&answer.proof))?;
    Ok(if answer.holds { Exit::Ok } else { Exit::Problems })
}

/// Why a run has no proof: there is none, or no longer all of it.
pub(super) async fn without_proof(inspector: &Inspector, run: Uuid) -> Result<Failure, Failure> {
    let since = inspector.pruning_since(run).await?;
    Ok(since.map_or_else(
        || Failure::unknown_run(run),
        |since| Failure::run_in_pruning(run, since),
    ))
}
