//! `runs item`: what became of one item.

use uuid::Uuid;

use super::output::{or_dash, time};
use super::runs::without_proof;
use super::{Context, Exit, Failure, Outcome};
use crate::inspect::ItemFate;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The run
    run: Uuid,
    /// The item's id
    #[arg(allow_negative_numbers = true)]
    item: i64,
}

impl Args {
    pub(super) async fn execute(self, context: &Context) -> Outcome {
        let Self { run, item } = self;
        let inspector = context.inspector().await?;
        let Some(fates) = inspector.item_of_run(run, item).await? else {
            return Err(without_proof(&inspector, run).await?);
        };
        if fates.iter().any(|fate| fate.fate == "not_of_this_run") {
            let failure = Failure::new(Exit::NotFound, format!("run {run} has no item {item}"));
            let hint = "see `batches list`; what a retry took over is in the run that sent it, and a run that went on as another has its items alone: see `runs show`";
            return Err(failure.hint(hint));
        }
        let columns = ["fate", "step", "batch", "at", "replica", "reason"];
        context.output.list(&columns, &fates, cells)?;
        Ok(Exit::Ok)
    }
}

fn cells(fate: &ItemFate) -> Vec<String> {
    vec![
        fate.fate.clone(),
        or_dash(fate.step.as_ref(), String::clone),
        or_dash(fate.batch_seq.as_ref(), i32::to_string),
        or_dash(fate.at.as_ref(), time),
        or_dash(fate.replica.as_ref(), Uuid::to_string),
        or_dash(fate.reason.as_ref(), String::clone),
    ]
}
