//! `runs list`.

use chrono::{DateTime, Utc};
use clap::builder::PossibleValuesParser;
use serde_json::Value;
use uuid::Uuid;

use super::output::{or_dash, time};
use super::runs::state;
use super::start::parse_time;
use super::{Context, Exit, Failure, Outcome};
use crate::inspect::{RUN_STATES, RunFilter, RunSummary, scalar};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Only of this state
    #[arg(long, value_parser = PossibleValuesParser::new(RUN_STATES))]
    status: Option<String>,
    /// Only of this workflow
    #[arg(long)]
    workflow: Option<String>,
    /// Only with this attribute; may be given several times. What reads as a number or a boolean is one; "42" in quotes is a string
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = parse_attribute)]
    attributes: Vec<(String, Value)>,
    /// Only from this queue
    #[arg(long)]
    queue: Option<String>,
    /// Only those that this run's code started
    #[arg(long, value_name = "RUN")]
    parent: Option<Uuid>,
    /// Only of this schedule
    #[arg(long)]
    schedule: Option<String>,
    /// Only on behalf of this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// Only those started at this instant or later: RFC 3339, or -2h
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    since: Option<DateTime<Utc>>,
    /// Only those started before this instant
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    until: Option<DateTime<Utc>>,
    /// Those behind this run in the list
    #[arg(long, value_name = "RUN")]
    after: Option<Uuid>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    limit: i64,
}

impl Args {
    pub(super) async fn execute(self, context: &Context) -> Outcome {
        let filter = RunFilter {
            workflow: self.workflow,
            status: self.status,
            queue: self.queue,
            attributes: self.attributes.into_iter().collect(),
            parent: self.parent,
            schedule: self.schedule,
            tenant: self.tenant,
            since: self.since,
            until: self.until,
        };
        if let Some((field, wrong)) = filter.misfit() {
            return Err(Failure::new(Exit::Usage, format!("{field} {wrong}")));
        }
        let inspector = context.inspector().await?;
        let (mut runs, mut after) = (Vec::new(), self.after);
        loop {
            let room = self.limit - i64::try_from(runs.len()).unwrap_or(self.limit);
            let page = inspector.list_runs(&filter, after, room).await?;
            runs.extend(page.runs);
            after = page.next;
            if after.is_none() || i64::try_from(runs.len()).is_ok_and(|listed| listed >= self.limit) {
                break;
            }
        }
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
}

/// An attribute as it is written on the command line.
pub(super) fn parse_attribute(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, such as customer=42")?;
    Ok((name.to_owned(), scalar(value)))
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
