//! What is done to one run, or to all that fit.

use uuid::Uuid;

use super::{Changed, Context, Exit, Failure, Outcome};
use crate::inspect::{ActedRuns, RunAct, RunFilter};
use crate::postgres::BulkAct;

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
    /// Does it to all that fit.
    pub(super) async fn act_on_all(self, context: &Context, act: RunAct, how: How) -> Outcome {
        let mut filter = RunFilter::default();
        for pair in &self.filter {
            filter
                .narrow(pair)
                .map_err(|wrong| Failure::new(Exit::Usage, format!("--where {pair}: {wrong}")))?;
        }
        let bulk = BulkAct {
            act,
            filter,
            all: self.all,
            reason: how.reason,
            at_most: how.at_most,
            after: None,
        };
        let operator = context.operator().await?;
        if how.dry_run {
            let found = operator.count_runs(&bulk).await?;
            return context.output.done(&found, || counted(&found, act));
        }
        match operator.act_on_runs(&bulk).await {
            Ok(done) => context.output.done(&done, || acted(&done, act)),
            Err((done, error)) => {
                let failure = Failure::of_write(error);
                let so_far = format!("{}; {act} was done to {} runs before", failure.what, done.acted);
                let hint = failure
                    .hint
                    .unwrap_or_else(|| "the same command goes on with the others".to_owned());
                let changed = match done.acted {
                    0 => failure.changed,
                    _ => Changed::Said,
                };
                Err(Failure::new(failure.exit, so_far).changed(changed).hint(hint))
            }
        }
    }
}

fn counted(found: &ActedRuns, act: RunAct) -> String {
    format!(
        "{act} would be done to {} runs; nothing was changed\n{}",
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
