//! `runs list|show|cancel|pause|resume|why|proof`.

use std::time::Duration;

use clap::builder::PossibleValuesParser;
use uuid::Uuid;

use super::output::{or_dash, time};
use super::runs_show::{detail, proof_text};
use super::{Context, Exit, Failure, Outcome};
use crate::inspect::{ProofAnswer, RUN_STATES, RunSummary, WhyAnswer};
use crate::postgres::{Inspector, RunFilter};

/// The proof of a large run looks at every exception of every batch.
const PROOF_PATIENCE: Duration = Duration::from_secs(10 * 60);

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Runs, newest first
    List {
        /// Only of this state
        #[arg(long, value_parser = PossibleValuesParser::new(RUN_STATES))]
        status: Option<String>,
        /// Only of this workflow
        #[arg(long)]
        workflow: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
        limit: i64,
    },
    /// One run: its steps, its batches by state, its history
    Show {
        /// The run
        run: Uuid,
    },
    /// Cancel a run: nothing new begins, batches in flight stop at their next message, what its code did it undoes
    Cancel {
        /// The run
        run: Uuid,
        /// Undo nothing, and wait for no code that does; the run's reason then says what was not undone
        #[arg(long)]
        force: bool,
        /// Why, for the record
        #[arg(long)]
        reason: Option<String>,
    },
    /// Pause a run: nothing more is claimed until it is resumed
    Pause {
        /// The run
        run: Uuid,
        /// Why, for the record
        #[arg(long)]
        reason: Option<String>,
    },
    /// Resume a paused or quarantined run
    Resume {
        /// The run
        run: Uuid,
    },
    /// Say why a run is not moving, most important cause first
    Why {
        /// The run
        run: Uuid,
        /// From when a transaction of anybody counts as one that slows everything
        #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = humantime::parse_duration)]
        old_snapshot: Duration,
    },
    /// Prove what became of every item; exits with 6 when something does not add up
    Proof {
        /// The run
        run: Uuid,
    },
}

impl Command {
    pub(super) async fn execute(self, context: &Context) -> Outcome {
        match self {
            Self::List {
                status,
                workflow,
                limit,
            } => {
                list(
                    context,
                    RunFilter {
                        status,
                        workflow,
                        limit,
                    },
                )
                .await
            }
            Self::Show { run } => show(context, run).await,
            Self::Cancel { run, force, reason } => {
                let operator = context.operator().await?;
                let status = match force {
                    true => operator.force_cancel_run(run, reason.as_deref()).await,
                    false => operator.cancel_run(run, reason.as_deref()).await,
                };
                acted(
                    context,
                    run,
                    status.map_err(Failure::of_write)?,
                    &["cancelled", "stopping"],
                )
            }
            Self::Pause { run, reason } => {
                let status = context.operator().await?.pause_run(run, reason.as_deref()).await;
                acted(context, run, status.map_err(Failure::of_write)?, &["paused"])
            }
            Self::Resume { run } => {
                let status = context.operator().await?.resume_run(run).await;
                acted(
                    context,
                    run,
                    status.map_err(Failure::of_write)?,
                    &["queued", "running", "suspended"],
                )
            }
            Self::Why { run, old_snapshot } => why(context, run, old_snapshot).await,
            Self::Proof { run } => proof(context, run).await,
        }
    }
}

async fn list(context: &Context, filter: RunFilter) -> Outcome {
    let runs = context.inspector().await?.list_runs(&filter).await?;
    let columns = [
        "run",
        "workflow",
        "status",
        "created_at",
        "started_at",
        "finished_at",
        "slot",
        "reason",
    ];
    context.output.list(&columns, &runs, cells)?;
    Ok(Exit::Ok)
}

fn cells(run: &RunSummary) -> Vec<String> {
    vec![
        run.run_id.to_string(),
        run.workflow.clone(),
        state(run),
        time(&run.created_at),
        or_dash(run.started_at.as_ref(), time),
        or_dash(run.finished_at.as_ref(), time),
        or_dash(run.slot.as_ref(), time),
        or_dash(run.reason.as_ref(), String::clone),
    ]
}

/// A run that was asked to stop is still what it was until its batches are back.
pub(super) fn state(run: &RunSummary) -> String {
    match (&run.stopping, run.finished_at) {
        (Some(to), None) => format!("{} (becomes {to})", run.status),
        _ => run.status.clone(),
    }
}

async fn show(context: &Context, run: Uuid) -> Outcome {
    let found = context
        .inspector()
        .await?
        .show_run(run)
        .await?
        .ok_or_else(|| Failure::unknown_run(run))?;
    context.output.done(&found, || detail(&found))
}

fn acted(context: &Context, run: Uuid, status: String, wanted: &[&str]) -> Outcome {
    if status == "unknown" {
        return Err(Failure::unknown_run(run));
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
