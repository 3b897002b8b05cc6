//! `runs show --steps`: how a run went, in order.

use super::output::{or_dash, time};
use super::{Context, Exit, Failure, Outcome};
use crate::inspect::{TimelineRow, is_cursor};

#[derive(clap::Args)]
pub(super) struct Args {
    /// How it went instead: steps, claims, changes and signals in order
    #[arg(long)]
    pub(super) steps: bool,
    /// With what it was given and returned, or of its steps what they returned and signals told, which may hold personal data
    #[arg(long)]
    pub(super) values: bool,
    /// What comes behind this cursor
    #[arg(long, value_name = "CURSOR", requires = "steps")]
    after: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 500, requires = "steps", value_parser = clap::value_parser!(i32).range(1..=1000))]
    limit: i32,
}

impl Args {
    pub(super) async fn execute(self, context: &Context, run: uuid::Uuid) -> Outcome {
        if self.after.as_deref().is_some_and(|after| !is_cursor(after)) {
            return Err(Failure::new(Exit::Usage, "--after is no cursor").hint("give the cursor of the last row"));
        }
        let inspector = context.inspector().await?;
        let rows = inspector
            .timeline(run, self.after.as_deref(), self.limit, self.values)
            .await?
            .ok_or_else(|| Failure::unknown_run(run))?;
        let columns = [
            "at",
            "what",
            "name",
            "kind",
            "status",
            "ended",
            "tries",
            "size",
            "waits for",
            "by",
            "reason",
        ];
        if self.values && context.output.format == super::Format::Table {
            let columns: Vec<&str> = columns.into_iter().chain(["value"]).collect();
            context.output.list(&columns, &rows, |row| {
                let mut cells = cells(row);
                cells.push(or_dash(row.value.as_ref(), String::clone));
                cells
            })?;
        } else {
            context.output.list(&columns, &rows, cells)?;
        }
        if let Some(last) = rows
            .last()
            .filter(|_| rows.len() == usize::try_from(self.limit).unwrap_or(0))
        {
            eprintln!("there may be more: --after '{}'", last.cursor);
        }
        Ok(Exit::Ok)
    }
}

fn cells(row: &TimelineRow) -> Vec<String> {
    let by = row
        .actor
        .clone()
        .or_else(|| row.replica.map(|replica| replica.to_string()));
    let number = |number: &i32| number.to_string();
    let about = [row.reason.clone(), row.other_run.map(|run| format!("run {run}"))];
    let about: Vec<String> = about.into_iter().flatten().collect();
    vec![
        time(&row.at),
        row.what.clone(),
        or_dash(row.name.as_ref(), String::clone),
        or_dash(row.kind.as_ref(), String::clone),
        row.status.clone(),
        or_dash(row.ended_at.as_ref(), time),
        or_dash(row.tries.as_ref(), number),
        or_dash(row.size.as_ref(), number),
        or_dash(row.waits_for.as_ref(), String::clone),
        or_dash(by.as_ref(), String::clone),
        or_dash((!about.is_empty()).then(|| about.join(", ")).as_ref(), String::clone),
    ]
}
