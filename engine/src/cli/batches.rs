//! `batches list`.

use clap::builder::PossibleValuesParser;
use uuid::Uuid;

use super::output::{or_dash, time};
use super::{Context, Exit, Failure, Outcome};
use crate::inspect::BatchSummary;

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Batches of a run in their order
    List {
        /// The run
        run: Uuid,
        /// Only batches of this state
        #[arg(long, value_parser = PossibleValuesParser::new(["free", "claimed", "recoverable", "done", "split"]))]
        state: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=1_000_000))]
        limit: i64,
    },
}

impl Command {
    pub(super) async fn execute(self, context: &Context) -> Outcome {
        let Self::List { run, state, limit } = self;
        let batches = context
            .inspector()
            .await?
            .list_batches(run, state.as_deref(), limit)
            .await?
            .ok_or_else(|| Failure::unknown_run(run))?;
        let columns = [
            "batch",
            "step",
            "status",
            "items",
            "first",
            "last",
            "attempts",
            "held_by",
            "lease_until",
            "not_before",
            "delivered",
            "refused",
            "unknown",
            "skipped",
            "vanished",
        ];
        context.output.list(&columns, &batches, cells)?;
        Ok(Exit::Ok)
    }
}

fn cells(batch: &BatchSummary) -> Vec<String> {
    let number = |number: &Option<i32>| or_dash(number.as_ref(), i32::to_string);
    vec![
        batch.batch_seq.to_string(),
        or_dash(batch.step.as_ref(), String::clone),
        batch.status.clone(),
        batch.items.to_string(),
        batch.first_id.to_string(),
        batch.last_id.to_string(),
        batch.attempts.to_string(),
        or_dash(batch.claimed_by.as_ref(), Uuid::to_string),
        or_dash(batch.lease_until.as_ref(), time),
        or_dash(batch.not_before.as_ref(), time),
        number(&batch.delivered),
        number(&batch.refused),
        number(&batch.unknown),
        number(&batch.skipped),
        number(&batch.vanished),
    ]
}
