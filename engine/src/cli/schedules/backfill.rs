//! `schedules backfill`.

use std::io::Write;

use chrono::{DateTime, Utc};

use super::show::{ScheduleFormat, documents, instant, plain_table};
use super::{Schedules, SchedulesError};
use crate::inspect::BackfilledSlot;
use crate::postgres::{Backfill, NotBackfilled};

/// Which slots to make good.
#[derive(Debug, Clone, clap::Args)]
pub struct BackfillArgs {
    /// The schedule
    pub name: String,
    /// The first instant, RFC 3339
    #[arg(long, value_name = "TIME")]
    pub from: DateTime<Utc>,
    /// Up to here, exclusively; now unless given
    #[arg(long, value_name = "TIME")]
    pub to: Option<DateTime<Utc>>,
    /// So many runs go on at once, of those for past slots and those that the schedule fired in the range
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub at_once: u32,
    /// Only list the slots, and which of them have no run
    #[arg(long)]
    pub dry_run: bool,
}

pub(super) async fn backfill(
    args: BackfillArgs,
    actor: Option<String>,
    schedules: &Schedules,
    format: ScheduleFormat,
    out: &mut dyn Write,
) -> Result<(), SchedulesError> {
    let backfill = Backfill {
        schedule: args.name,
        from: args.from,
        to: args.to,
        at_once: args.at_once,
        dry_run: args.dry_run,
        actor,
    };
    let slots = schedules.backfill(&backfill).await;
    let slots = slots.map_err(|(seen_to, error)| SchedulesError::Backfill { seen_to, error })?;
    let slots = slots.map_err(|why| match why {
        NotBackfilled::Unknown(name) => SchedulesError::Unknown { name },
        NotBackfilled::Invalid(wrong) => SchedulesError::Invalid(wrong),
    })?;
    if format != ScheduleFormat::Table {
        return documents(&slots, format, out);
    }
    let mut table = plain_table(&["slot (UTC)", "outcome", "run"]);
    for slot in &slots {
        let run = slot.run_id.map_or_else(|| "-".to_owned(), |run| run.to_string());
        table.add_row(vec![instant(slot.slot), slot.outcome.clone(), run]);
    }
    writeln!(out, "{table}")?;
    let count = |outcome: &str| {
        slots
            .iter()
            .filter(|slot: &&BackfilledSlot| slot.outcome == outcome)
            .count()
    };
    let (missing, new) = (count("missing"), count("new"));
    if backfill.dry_run {
        writeln!(
            out,
            "{missing} of {} slots have no run; nothing was started",
            slots.len()
        )?;
    } else {
        writeln!(out, "{new} runs were started, {} slots had one", slots.len() - new)?;
    }
    Ok(())
}
