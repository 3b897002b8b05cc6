//! `undelivered list|redeliver|discard|export`. Only `export --payload` shows what is in a message.

use clap::builder::PossibleValuesParser;
use serde::Serialize;
use uuid::Uuid;

use super::output::{or_dash, time};
use super::undelivered_export::export;
use super::{Context, Exit, Failure, Outcome};
use crate::inspect::{UndeliveredCount, UndeliveredFilter, UndeliveredSummary};
use crate::postgres::{DatabaseError, UndeliveredDesk};

const STATES: [&str; 6] = ["due", "refused", "claimed", "delivered", "dead", "discarded"];
/// What a person may change: not what a replica holds, and not what is over.
const OPEN_STATES: [&str; 3] = ["due", "refused", "dead"];

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Undelivered messages, newest first, without key, headers and payload
    List {
        #[command(flatten)]
        filter: Filter,
        /// At most so many
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..=100_000))]
        limit: i32,
    },
    /// Make messages due now with their attempts anew, refused and dead ones included
    Redeliver {
        #[command(flatten)]
        filter: Filter,
        /// Why, for the record
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        how: How,
    },
    /// Give messages up for good; their key, headers and payload are cleared
    Discard {
        #[command(flatten)]
        filter: Filter,
        /// Why, for the record
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        how: How,
    },
    /// Print messages as JSON lines, newest first
    Export {
        #[command(flatten)]
        filter: Filter,
        /// With key, headers and payload, which may hold personal data
        #[arg(long)]
        payload: bool,
    },
}

#[derive(clap::Args)]
pub(super) struct Filter {
    /// These messages
    ids: Vec<Uuid>,
    /// In these states
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(STATES))]
    status: Vec<String>,
    /// Of this run
    #[arg(long)]
    run: Option<Uuid>,
    /// Of this kind of command, such as email
    #[arg(long = "type", value_name = "TYPE")]
    command_type: Option<String>,
    /// To this topic
    #[arg(long)]
    topic: Option<String>,
    /// Stored for this reason, such as too_large
    #[arg(long, value_name = "CODE")]
    reason_code: Option<String>,
}

#[derive(clap::Args)]
pub(super) struct How {
    /// Only count
    #[arg(long)]
    dry_run: bool,
    /// Every message that can be, should nothing else narrow them down
    #[arg(long)]
    all: bool,
}

#[derive(Serialize)]
struct Counted {
    changed: u64,
    dry_run: bool,
    found: Vec<UndeliveredCount>,
}

impl Command {
    pub(super) async fn execute(self, context: &Context) -> Outcome {
        let desk = UndeliveredDesk::new(context.database().await?, context.actor.clone());
        match self {
            Self::List { filter, limit } => list(context, &desk, &filter.into(), limit).await,
            Self::Export { filter, payload } => export(&desk, &filter.into(), payload).await,
            Self::Redeliver { filter, reason, how } => {
                let filter = to_change(filter, &how)?;
                let found = desk.count(&filter).await?;
                let changed = match how.dry_run {
                    true => 0,
                    false => desk
                        .redeliver(&filter, reason.as_deref())
                        .await
                        .map_err(|(done, error)| part_done(error, "made due", done))?,
                };
                counted(context, &how, "made due", changed, found)
            }
            Self::Discard { filter, reason, how } => {
                if reason.trim().is_empty() {
                    return Err(Failure::new(Exit::Usage, "the reason is empty").hint("say why, for the record"));
                }
                let filter = to_change(filter, &how)?;
                let found = desk.count(&filter).await?;
                let changed = match how.dry_run {
                    true => 0,
                    false => desk
                        .discard(&filter, &reason)
                        .await
                        .map_err(|(done, error)| part_done(error, "discarded", done))?,
                };
                counted(context, &how, "discarded", changed, found)
            }
        }
    }
}

fn part_done(error: DatabaseError, verb: &str, done: u64) -> Failure {
    Failure::after_pages(error, format_args!("{done} messages were {verb}"), done)
}

impl From<Filter> for UndeliveredFilter {
    fn from(filter: Filter) -> Self {
        Self {
            ids: Some(filter.ids).filter(|ids| !ids.is_empty()),
            statuses: Some(filter.status).filter(|statuses| !statuses.is_empty()),
            run: filter.run,
            command_type: filter.command_type,
            topic: filter.topic,
            reason_code: filter.reason_code,
        }
    }
}

/// What a change is about; everything there is only when that is said.
fn to_change(filter: Filter, how: &How) -> Result<UndeliveredFilter, Failure> {
    let mut filter = UndeliveredFilter::from(filter);
    if filter == UndeliveredFilter::default() && !how.all {
        return Err(Failure::new(Exit::Usage, "no messages are named")
            .hint("give ids, --run, --status, --type, --topic or --reason-code, or --all; --dry-run only counts"));
    }
    let statuses = filter
        .statuses
        .take()
        .unwrap_or(OPEN_STATES.map(str::to_owned).to_vec());
    if let Some(status) = statuses.iter().find(|status| !OPEN_STATES.contains(&status.as_str())) {
        let what = format!("messages that are {status} cannot be changed by hand");
        return Err(Failure::new(Exit::Usage, what).hint("only due, refused and dead ones can"));
    }
    filter.statuses = Some(statuses);
    Ok(filter)
}

async fn list(context: &Context, desk: &UndeliveredDesk, filter: &UndeliveredFilter, limit: i32) -> Outcome {
    let messages = desk.list(filter, None, limit).await?;
    let columns = [
        "id",
        "status",
        "type",
        "topic",
        "run",
        "batch",
        "item",
        "reason_code",
        "attempts",
        "next_attempt_at",
        "bytes",
        "actor",
        "last_error",
        "reason",
    ];
    context.output.list(&columns, &messages, cells)?;
    Ok(Exit::Ok)
}

fn cells(message: &UndeliveredSummary) -> Vec<String> {
    let waits = message.status == "due";
    vec![
        message.id.to_string(),
        message.status.clone(),
        message.command_type.clone(),
        message.topic.clone(),
        or_dash(message.run_id.as_ref(), Uuid::to_string),
        or_dash(message.batch_seq.as_ref(), i32::to_string),
        or_dash(message.item_id.as_ref(), i64::to_string),
        message.reason_code.clone(),
        message.attempts.to_string(),
        or_dash(Some(&message.next_attempt_at).filter(|_| waits), time),
        or_dash(message.payload_bytes.as_ref(), i32::to_string),
        or_dash(message.actor.as_ref(), String::clone),
        or_dash(message.last_error.as_ref(), String::clone),
        message.reason.clone(),
    ]
}

fn counted(context: &Context, how: &How, what: &str, changed: u64, found: Vec<UndeliveredCount>) -> Outcome {
    let counted = Counted {
        changed,
        dry_run: how.dry_run,
        found,
    };
    context.output.done(&counted, || {
        let mut text = String::new();
        for count in &counted.found {
            text.push_str(&format!("{}\t{}", count.status, count.messages));
            if count.without_message > 0 {
                text.push_str(&format!("\t{} of them have no message to send", count.without_message));
            }
            text.push('\n');
        }
        match how.dry_run {
            true => text + "nothing was changed: --dry-run only counts\n",
            false => text + &format!("{changed} {what}\n"),
        }
    })
}
