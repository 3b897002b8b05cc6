//! `outbox list|move|discard`.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::output::{or_dash, time};
use super::start::parse_time;
use super::{Context, Exit, Failure, Outcome};
use crate::delivery::is_topic_name;
use crate::inspect::{LaneSummary, OutboxAct, OutboxBulk, OutboxChange, OutboxFilter};
use crate::postgres::OutboxDesk;

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Lanes of the outbox with something in them or a holder, how much waits and since when
    List {
        /// Also those with neither
        #[arg(long)]
        all: bool,
    },
    /// Move commands that are stuck to the undelivered messages, as dead ones, from where `undelivered` redelivers, exports or
    /// discards them; those of a key lose their order
    Move {
        #[command(flatten)]
        which: Which,
        /// Their topic, instead of that of their route; wanted where the configuration names that
        #[arg(long, value_name = "TOPIC")]
        to_topic: Option<String>,
    },
    /// Give commands up for good; one that a replica is sending this moment may arrive all the same
    Discard {
        #[command(flatten)]
        which: Which,
    },
}

#[derive(clap::Args)]
pub(super) struct Which {
    /// Those with these message ids
    ids: Vec<Uuid>,
    /// Of this kind of command, such as email
    #[arg(long = "type", value_name = "TYPE")]
    command_type: Option<String>,
    /// On this route: a topic, or : and the type whose topic the configuration names
    #[arg(long)]
    route: Option<String>,
    /// Enqueued before this instant: RFC 3339, or -2h
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    before: Option<DateTime<Utc>>,
    /// Why, for the record
    #[arg(long)]
    reason: String,
    /// Only count
    #[arg(long)]
    dry_run: bool,
    /// All there are, should nothing else narrow them down
    #[arg(long)]
    all: bool,
}

impl Command {
    pub(super) async fn execute(self, context: &Context) -> Outcome {
        match self {
            Self::List { all } => list(context, all).await,
            Self::Move { which, to_topic } => which.act(context, OutboxAct::Move, to_topic).await,
            Self::Discard { which } => which.act(context, OutboxAct::Discard, None).await,
        }
    }
}

impl Which {
    async fn act(self, context: &Context, act: OutboxAct, to_topic: Option<String>) -> Outcome {
        if self.reason.trim().is_empty() {
            return Err(Failure::new(Exit::Usage, "the reason is empty").hint("say why, for the record"));
        }
        if let Some(topic) = to_topic.as_deref().filter(|topic| !is_topic_name(topic)) {
            return Err(Failure::new(Exit::Usage, format!("no topic can be called {topic:?}"))
                .hint("1 to 249 letters, digits, dots, underscores and hyphens; nothing was changed"));
        }
        let filter = OutboxFilter {
            ids: Some(self.ids).filter(|ids| !ids.is_empty()),
            command_type: self.command_type,
            route: self.route,
            before: self.before,
        };
        if filter == OutboxFilter::default() && !self.all {
            return Err(Failure::new(Exit::Usage, "no commands are named")
                .hint("give ids, --type, --route or --before, or --all; --dry-run only counts"));
        }
        let mut bulk = OutboxBulk {
            act,
            filter,
            to_topic,
            reason: self.reason,
            dry_run: self.dry_run,
            after: None,
        };
        let desk = OutboxDesk::new(context.database().await?, context.actor.clone());
        let mut done = OutboxChange::default();
        loop {
            match desk.act(&bulk).await {
                Ok(more) => done.add(more),
                Err((more, error)) => {
                    done.add(more);
                    let so_far = format_args!("{} commands were taken out", done.changed);
                    return Err(Failure::after_pages(error, so_far, done.changed));
                }
            }
            bulk.after = done.next;
            if bulk.after.is_none() {
                break;
            }
        }
        context.output.done(&done, || match (bulk.dry_run, act) {
            (true, _) => format!(
                "{} commands; nothing was changed: --dry-run only counts\n",
                done.matched
            ),
            (false, OutboxAct::Move) => format!("{} moved to the undelivered messages\n", done.changed),
            (false, OutboxAct::Discard) => format!("{} discarded\n", done.changed),
        })
    }
}

async fn list(context: &Context, all: bool) -> Outcome {
    let mut lanes = context.inspector().await?.list_outbox().await?;
    lanes.retain(|lane| all || lane.waiting + lane.delayed > 0 || lane.holder.is_some());
    let columns = [
        "lane",
        "waiting",
        "delayed",
        "oldest",
        "holder",
        "lease_until",
        "last_error",
    ];
    context.output.list(&columns, &lanes, cells)?;
    Ok(Exit::Ok)
}

fn cells(lane: &LaneSummary) -> Vec<String> {
    vec![
        lane.lane.to_string(),
        lane.waiting.to_string(),
        lane.delayed.to_string(),
        or_dash(lane.oldest.as_ref(), time),
        or_dash(lane.holder.as_ref(), Uuid::to_string),
        or_dash(lane.lease_until.as_ref(), time),
        or_dash(lane.last_error.as_ref(), String::clone),
    ]
}
