//! What is done to one run, or to all that fit.

use uuid::Uuid;

use super::{Context, Exit, Failure, Outcome};
use crate::inspect::{ActedRuns, RunAct, RunFilter};
use crate::postgres::{BulkAct, DatabaseError};

/// One run, or many.
#[derive(clap::Args)]
#[group(id = "target", required = true, multiple = true)]
pub(super) struct Target {
    /// The run
    #[arg(conflicts_with_all = ["where", "all"])]
    pub(super) run: Option<Uuid>,
    /// All runs that fit, instead: workflow=, status=, queue=, attribute.NAME=, parent=, schedule=, tenant=, since=, until=; may be given several times
    #[arg(long = "where", id = "where", value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// All runs, should nothing else narrow them down
    #[arg(long)]
    all: bool,
}

/// How it is done.
#[derive(clap::Args)]
pub(super) struct How {
    /// Why, for the record
    #[arg(long)]
    pub(super) reason: Option<String>,
    /// Only count them, and show the first
    #[arg(long, conflicts_with = "run")]
    dry_run: bool,
    /// To so many at most
    #[arg(long, value_name = "N", default_value_t = 100_000, conflicts_with = "run", value_parser = clap::value_parser!(u64).range(1..))]
    at_most: u64,
}

impl Target {
    /// Does it to all that fit; a cancel may be forced.
    pub(super) async fn act_on_all(self, context: &Context, act: RunAct, how: How, force: bool) -> Outcome {
        let mut filter = RunFilter::default();
        for pair in &self.filter {
            filter
                .narrow(pair)
                .map_err(|wrong| Failure::new(Exit::Usage, format!("--where {pair}: {wrong}")))?;
        }
        let mut bulk = BulkAct {
            act,
            filter,
            all: self.all,
            force,
            reason: how.reason,
            at_most: how.at_most,
            after: None,
        };
        let operator = context.operator().await?;
        let mut done = ActedRuns::default();
        loop {
            let looked = match how.dry_run {
                true => operator.count_runs(&bulk).await?,
                false => match operator.act_on_runs(&bulk).await {
                    Ok(looked) => looked,
                    Err((looked, error)) => {
                        done.add(looked);
                        return Err(failed(&done, act, error));
                    }
                },
            };
            done.add(looked);
            // Each call looks at so many; a person means all.
            bulk.after = done.next;
            bulk.at_most = how.at_most.saturating_sub(done.matched);
            if bulk.after.is_none() || bulk.at_most == 0 {
                break;
            }
        }
        match how.dry_run {
            true => context.output.done(&done, || counted(&done, act)),
            false => context.output.done(&done, || acted(&done, act)),
        }
    }
}

fn failed(done: &ActedRuns, act: RunAct, error: DatabaseError) -> Failure {
    Failure::after_pages(error, format_args!("{act} was done to {} runs", done.acted), done.acted)
}

fn counted(found: &ActedRuns, act: RunAct) -> String {
    let more = if found.next.is_some() { " or more" } else { "" };
    format!(
        "{act} would be done to {} runs{more}; nothing was changed\n{}",
        found.matched,
        sample(found)
    )
}

fn acted(done: &ActedRuns, act: RunAct) -> String {
    let left = done.matched - done.acted;
    let left = match left {
        0 => String::new(),
        left => format!("; {left} had changed meanwhile or are needed"),
    };
    let more = if done.next.is_some() {
        "; there may be more: ask again"
    } else {
        ""
    };
    format!("{act} was done to {} runs{left}{more}\n{}", done.acted, sample(done))
}

fn sample(found: &ActedRuns) -> String {
    let line = |run: &crate::inspect::ActedRun| {
        let workflow = super::output::clean(&run.workflow);
        format!("{}\t{workflow}\t{}\n", run.run_id, run.status)
    };
    found.sample.iter().map(line).collect()
}
