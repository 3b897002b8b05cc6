//! `lockgate schedules`: list, set, pause, resume, remove, backfill and preview.

mod backfill;
mod rules;
mod show;

use std::io::Write;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};

pub use backfill::BackfillArgs;
pub use rules::{RuleArgs, RunArgs, SetArgs};
pub use show::ScheduleFormat;

use super::{Changed, Context, Exit, Failure, Format, Outcome};
use crate::postgres::{Database, DatabaseError, DatabaseSettings, ScheduleView, Schedules, SetOutcome};
use crate::trigger::{Calendar, CatchUpRules, Outage, preview};
use crate::workflow::Registry;

/// The most rows of a preview; the search for a slot costs a little each.
const MOST_ROWS: u16 = 10_000;

/// What to do with schedules.
#[derive(Debug, Clone, Args)]
pub struct SchedulesArgs {
    /// The verb.
    #[command(subcommand)]
    pub command: SchedulesCommand,
}

/// The verbs of `schedules`.
#[derive(Debug, Clone, Subcommand)]
pub enum SchedulesCommand {
    /// List all schedules
    List,
    /// Create a schedule or replace all of it; what is not given is back at its default, see --keep; a pause stays
    Set(SetArgs),
    /// Remove a schedule; its runs stay and go on
    Remove {
        /// Its name
        name: String,
        /// Why, for the record
        #[arg(long)]
        reason: Option<String>,
    },
    /// Fire nothing until it is resumed
    Pause {
        /// Its name
        name: String,
        /// Why, for the record
        #[arg(long)]
        reason: Option<String>,
    },
    /// Fire again, from now on; what fell due while it was paused does not fire
    Resume {
        /// Its name
        name: String,
        /// Why, for the record
        #[arg(long)]
        reason: Option<String>,
    },
    /// Start runs for past slots that have none
    Backfill(BackfillArgs),
    /// Show when it fires, and what the clocks and catch-up do
    Preview(PreviewArgs),
}

/// What to preview.
#[derive(Debug, Clone, Args)]
pub struct PreviewArgs {
    /// A schedule; the options below change it for the preview only
    #[arg(required_unless_present = "cron")]
    pub name: Option<String>,
    /// A cron text instead, such as `30 6 * * MON-FRI`
    #[arg(long)]
    pub cron: Option<String>,
    /// The IANA time zone
    #[arg(long, visible_alias = "tz")]
    pub timezone: Option<String>,
    /// The rules
    #[command(flatten)]
    pub rules: RuleArgs,
    /// How many rows
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST_ROWS)))]
    pub count: u16,
    /// From when, RFC 3339; unless given from now, with what the leader has still to catch up with of a stored schedule
    #[arg(long)]
    pub from: Option<DateTime<Utc>>,
    /// Suppose that there is no leader in this time: FROM..TO, RFC 3339
    #[arg(long, value_parser = parse_outage, value_name = "FROM..TO")]
    pub outage: Option<Outage>,
}

/// Why a verb did nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchedulesError {
    /// The request is wrong.
    #[error("{0}; nothing was changed")]
    Invalid(String),
    /// There is no schedule of that name.
    #[error("there is no schedule {name}; nothing was changed; `lockgate schedules list` shows those there are")]
    Unknown {
        /// The name.
        name: String,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The database failed while slots were filled in.
    #[error("{error}; {seen_to} slots were seen to before")]
    Backfill {
        /// So many have their run, or need none.
        seen_to: u64,
        /// How it failed.
        error: DatabaseError,
    },
    /// The answer could not be written.
    #[error("the answer cannot be written: {0}")]
    Output(#[from] std::io::Error),
}

impl SchedulesArgs {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let database = match &self.command {
            // What is only supposed asks nothing of a database: one that is never connected to.
            SchedulesCommand::Preview(args) if args.name.is_none() => {
                Database::new(&DatabaseSettings::new("postgres://localhost"))?
            }
            _ => context.database().await?,
        };
        let format = match context.output.format {
            Format::Table => ScheduleFormat::Table,
            Format::Json => ScheduleFormat::Json,
            Format::Jsonl => ScheduleFormat::Jsonl,
        };
        let mut answer = Vec::new();
        let actor = context.actor.clone();
        execute(self, &database, context.host.registry(), actor, format, &mut answer).await?;
        std::io::stdout().write_all(&answer).map_err(SchedulesError::Output)?;
        Ok(Exit::Ok)
    }
}

impl From<SchedulesError> for Failure {
    fn from(error: SchedulesError) -> Self {
        match error {
            SchedulesError::Invalid(what) => Self::new(Exit::Usage, what),
            SchedulesError::Unknown { name } => Self::new(Exit::NotFound, format!("there is no schedule {name}"))
                .hint("`lockgate schedules list` shows those there are"),
            SchedulesError::Database(error) => Self::of_write(error),
            SchedulesError::Backfill { seen_to, error } => {
                Self::after_pages(error, format_args!("{seen_to} slots were seen to"), seen_to)
            }
            SchedulesError::Output(error) => {
                Self::new(Exit::Failed, format!("the answer cannot be written: {error}")).changed(Changed::Said)
            }
        }
    }
}

/// Carries a verb out and writes the answer. With a registry, `set` takes only workflows and params it knows.
///
/// # Errors
/// See [`SchedulesError`].
pub async fn execute(
    args: SchedulesArgs,
    database: &Database,
    registry: Option<&Registry>,
    actor: Option<String>,
    format: ScheduleFormat,
    out: &mut dyn Write,
) -> Result<(), SchedulesError> {
    let schedules = Schedules::new(database.clone());
    match args.command {
        SchedulesCommand::List => show::list(&schedules.list(None).await?, format, out),
        SchedulesCommand::Set(args) => {
            let schedules = schedules.acting(actor, args.reason.clone());
            set(args, &schedules, registry, format, out).await
        }
        SchedulesCommand::Remove { name, reason } => {
            let known = schedules.acting(actor, reason).remove(&name).await?;
            done(known, name, "removed", format, out)
        }
        SchedulesCommand::Pause { name, reason } => {
            let known = schedules.acting(actor, reason).pause(&name).await?;
            done(known, name, "paused", format, out)
        }
        SchedulesCommand::Resume { name, reason } => {
            let known = schedules.acting(actor, reason).resume(&name).await?;
            done(known, name, "active", format, out)
        }
        SchedulesCommand::Backfill(args) => backfill::backfill(args, actor, &schedules, format, out).await,
        SchedulesCommand::Preview(args) => show_preview(args, &schedules, format, out).await,
    }
}

async fn set(
    args: SetArgs,
    schedules: &Schedules,
    registry: Option<&Registry>,
    format: ScheduleFormat,
    out: &mut dyn Write,
) -> Result<(), SchedulesError> {
    let kept = match args.keep {
        true => Some(read(schedules, &args.name).await?),
        false => None,
    };
    let spec = args.checked(kept.as_ref(), registry).map_err(SchedulesError::Invalid)?;
    let outcome = match schedules.set(&spec).await?.map_err(SchedulesError::Invalid)? {
        SetOutcome::Created => "created",
        SetOutcome::Changed => "changed",
        SetOutcome::Unchanged => "unchanged",
    };
    show::outcome(&spec.name, outcome, format, out)
}

fn done(
    known: bool,
    name: String,
    state: &str,
    format: ScheduleFormat,
    out: &mut dyn Write,
) -> Result<(), SchedulesError> {
    if !known {
        return Err(SchedulesError::Unknown { name });
    }
    show::outcome(&name, state, format, out)
}

async fn show_preview(
    args: PreviewArgs,
    schedules: &Schedules,
    format: ScheduleFormat,
    out: &mut dyn Write,
) -> Result<(), SchedulesError> {
    let stored = match &args.name {
        Some(name) => Some(read(schedules, name).await?),
        None => None,
    };
    let (calendar, rules) = previewed(&args, stored.as_ref()).map_err(SchedulesError::Invalid)?;
    // What is stored fires by the database's clock; what is only supposed needs no database.
    let now = stored.as_ref().map_or_else(Utc::now, |view| view.now);
    let behind = stored.as_ref().and_then(|view| unsettled(&args, view));
    let outage = args.outage.or(behind);
    let from = args.from.or(outage.map(|outage| outage.from)).unwrap_or(now);
    let rows = preview(&calendar, from, usize::from(args.count), outage, &rules);
    show::preview(stored.as_ref(), &calendar, &rules, &rows, format, out)
}

/// The time that the leader's next look at a schedule is about. What is paused, or would get another calendar, starts anew.
fn unsettled(args: &PreviewArgs, view: &ScheduleView) -> Option<Outage> {
    let (since, to) = (view.row.active_from, view.now);
    let from = view.row.last_slot.map_or(since, |slot| slot.max(since));
    let clocks = args.rules.dst_gap.is_some() || args.rules.dst_fold.is_some();
    let supposed = args.from.is_some() || args.cron.is_some() || args.timezone.is_some() || clocks;
    (!supposed && view.paused_at.is_none() && from < to).then_some(Outage { from, to })
}

async fn read(schedules: &Schedules, name: &str) -> Result<ScheduleView, SchedulesError> {
    let found = schedules.list(Some(name)).await?.pop();
    found.ok_or_else(|| SchedulesError::Unknown { name: name.to_owned() })
}

fn previewed(args: &PreviewArgs, stored: Option<&ScheduleView>) -> Result<(Calendar, CatchUpRules), String> {
    let row = stored.map(|view| &view.row);
    let cron = args.cron.as_deref().or(row.map(|row| row.cron.as_str()));
    let zone = args.timezone.as_deref().or(row.map(|row| row.timezone.as_str()));
    let cron = cron.ok_or("name a schedule or give --cron")?;
    let (gap, fold) = args.rules.clock_rules(row)?;
    let calendar = Calendar::parse(cron, zone.unwrap_or("UTC"), gap, fold).map_err(|error| error.to_string())?;
    Ok((calendar, args.rules.catch_up_rules(row)?))
}

fn parse_outage(text: &str) -> Result<Outage, String> {
    let (from, to) = text
        .split_once("..")
        .ok_or("write FROM..TO, for example 2026-03-28T12:00:00Z..2026-03-30T12:00:00Z")?;
    let instant = |text: &str| {
        text.parse::<DateTime<Utc>>()
            .map_err(|error| format!("`{text}` is not an instant such as 2026-03-28T12:00:00Z: {error}"))
    };
    let outage = Outage {
        from: instant(from)?,
        to: instant(to)?,
    };
    if outage.to <= outage.from {
        return Err("the outage ends before it begins".to_owned());
    }
    Ok(outage)
}
