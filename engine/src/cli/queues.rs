//! `queues list|show|set|pause|resume|remove|sync`.

use std::time::Duration;

use clap::builder::PossibleValuesParser;

use super::output::{or_dash, time};
use super::{Context, Exit, Failure, Outcome};
use crate::lifecycle::{Holds, QueueSettings};
use crate::postgres::{DatabaseError, QueueSummary};

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Queues that are set, or in which runs wait or run
    List,
    /// One queue
    Show {
        /// Its name
        name: String,
    },
    /// Replace the settings of a queue; what is not given is no limit afterwards, see --keep; a pause stays
    Set(SetArgs),
    /// Claim nothing of a queue until it is resumed; what is claimed goes on
    Pause {
        /// Its name
        name: String,
        /// Why, for the record
        #[arg(long)]
        reason: Option<String>,
    },
    /// Claim its runs again
    Resume {
        /// Its name
        name: String,
        /// Why, for the record
        #[arg(long)]
        reason: Option<String>,
    },
    /// Take the settings of a queue away, a pause too; its runs stay
    Remove {
        /// Its name
        name: String,
        /// Why, for the record
        #[arg(long)]
        reason: Option<String>,
    },
    /// Make the settings of the queues that this binary declares what it declares
    Sync,
}

#[derive(clap::Args)]
pub(super) struct SetArgs {
    /// Its name; a workflow without a queue has its own
    name: String,
    /// Change only what is given, and keep the other settings; a new rate has a burst of its own. To take a limit away, repeat the others without this
    #[arg(long)]
    keep: bool,
    /// Most runs at once, in the whole fleet
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=2_147_483_647))]
    max_running: Option<u32>,
    /// The same for each limit key
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=2_147_483_647))]
    max_per_key: Option<u32>,
    /// Claims a second, in the whole fleet
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Claims that may come at once after a pause; those of a second unless given
    #[arg(long, value_name = "N", requires = "rate", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    burst: Option<u32>,
    /// Tenants take turns
    #[arg(long)]
    fair: bool,
    /// How long a run holds its place: while its code runs, or from its first claim until it is over [default: code]
    #[arg(long, value_parser = PossibleValuesParser::new(["code", "run"]))]
    holds: Option<String>,
    /// How long code may run from its claim until it waits or ends
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    max_attempt: Option<Duration>,
    /// Why, for the record
    #[arg(long)]
    reason: Option<String>,
}

impl SetArgs {
    /// What is not given is as in `kept`, else no limit.
    fn settings(&self, kept: Option<&QueueSummary>) -> Result<QueueSettings, Failure> {
        let limit = |given: Option<u32>, of: fn(&QueueSummary) -> Option<i32>| {
            given.or(kept.and_then(of).and_then(|limit| u32::try_from(limit).ok()))
        };
        let holds = self
            .holds
            .as_deref()
            .map(|holds| if holds == "run" { Holds::Run } else { Holds::Code });
        let kept_burst: fn(&QueueSummary) -> Option<i32> = match self.rate {
            Some(_) => |_| None,
            None => |kept| kept.burst,
        };
        let kept_attempt = kept.and_then(|kept| Duration::try_from_secs_f64(kept.max_attempt_s?).ok());
        let settings = QueueSettings {
            max_running: limit(self.max_running, |kept| kept.max_running),
            max_per_key: limit(self.max_per_key, |kept| kept.max_per_key),
            rate_per_s: self.rate.or(kept.and_then(|kept| kept.rate_per_s)),
            burst: limit(self.burst, kept_burst),
            fair: self.fair || kept.is_some_and(|kept| kept.fair),
            holds: holds.or(kept.map(|kept| kept.holds)).unwrap_or(Holds::Code),
            max_attempt: self.max_attempt.or(kept_attempt),
            ..QueueSettings::new(self.name.clone())
        };
        settings.check().map_err(|why| Failure::new(Exit::Usage, why))?;
        Ok(settings)
    }
}

impl Command {
    pub(super) async fn execute(self, context: &Context) -> Outcome {
        match self {
            Self::List => list(context).await,
            Self::Show { name } => show(context, &name).await,
            Self::Set(args) => {
                let kept = match args.keep {
                    true => Some(found(context, &args.name).await?),
                    false => None,
                };
                let settings = args.settings(kept.as_ref())?;
                let operator = context.operator().await?;
                let answer = operator.set_queue(&settings, args.reason.as_deref(), false).await;
                done(context, &settings.name, answer)
            }
            Self::Pause { name, reason } => {
                let answer = context.operator().await?.pause_queue(&name, reason.as_deref()).await;
                done(context, &name, answer)
            }
            Self::Resume { name, reason } => {
                let answer = context.operator().await?.resume_queue(&name, reason.as_deref()).await;
                done(context, &name, answer)
            }
            Self::Remove { name, reason } => {
                let answer = context.operator().await?.remove_queue(&name, reason.as_deref()).await;
                done(context, &name, answer)
            }
            Self::Sync => sync(context).await,
        }
    }
}

fn done(context: &Context, name: &str, answer: Result<String, DatabaseError>) -> Outcome {
    let state = answer.map_err(Failure::of_write)?;
    if state == "unknown" {
        return Err(unknown(name));
    }
    let answer = serde_json::json!({ "name": name, "state": state });
    context.output.done(&answer, || format!("{name}\t{state}\n"))
}

fn unknown(name: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("nothing is set for queue {name}")).hint("see `queues list`")
}

async fn sync(context: &Context) -> Outcome {
    let operator = context.operator().await?;
    let declared = context
        .host
        .registry()
        .into_iter()
        .flat_map(|registry| registry.queues());
    let mut answers = Vec::new();
    for settings in declared {
        settings
            .check()
            .map_err(|why| Failure::new(Exit::Usage, format!("queue {}: {why}", settings.name)))?;
        let state = operator.set_queue(settings, Some("declared by code"), false).await;
        let before = answers.len();
        let so_far = format_args!("{before} queues were looked at or set");
        let state = state.map_err(|error| Failure::after_pages(error, so_far, before as u64))?;
        answers.push((settings.name.clone(), state));
    }
    let lines: Vec<String> = answers
        .iter()
        .map(|(name, state)| format!("{name}\t{state}\n"))
        .collect();
    let answer: Vec<_> = answers
        .iter()
        .map(|(name, state)| serde_json::json!({ "name": name, "state": state }))
        .collect();
    context.output.done(&answer, || lines.concat())
}

const COLUMNS: [&str; 10] = [
    "queue",
    "state",
    "waiting",
    "later",
    "running",
    "oldest_wait",
    "max_running",
    "max_per_key",
    "rate_per_s",
    "other",
];

async fn list(context: &Context) -> Outcome {
    let queues = context.inspector().await?.list_queues(None).await?;
    context.output.list(&COLUMNS, &queues, cells)?;
    Ok(Exit::Ok)
}

async fn found(context: &Context, name: &str) -> Result<QueueSummary, Failure> {
    let queues = context.inspector().await?.list_queues(Some(name)).await?;
    queues.into_iter().next().ok_or_else(|| unknown(name))
}

async fn show(context: &Context, name: &str) -> Outcome {
    let queue = found(context, name).await?;
    context.output.done(&queue, || detail(&queue))
}

fn detail(queue: &QueueSummary) -> String {
    let names = COLUMNS.iter().zip(cells(queue));
    let mut text: String = names.map(|(name, value)| format!("{name}\t{value}\n")).collect();
    if let Some(at) = &queue.paused_at {
        let by = queue.paused_by.as_deref().unwrap_or("somebody");
        let why = queue.pause_reason.as_deref().unwrap_or("-");
        text += &format!("paused\tat {} by {by}: {why}\n", time(at));
    }
    text
}

fn cells(queue: &QueueSummary) -> Vec<String> {
    vec![
        queue.name.clone(),
        if queue.paused_at.is_some() { "paused" } else { "active" }.to_owned(),
        queue.waiting.to_string(),
        queue.later.to_string(),
        queue.running.to_string(),
        or_dash(queue.oldest_wait_s.as_ref(), in_words),
        or_dash(queue.max_running.as_ref(), ToString::to_string),
        or_dash(queue.max_per_key.as_ref(), ToString::to_string),
        or_dash(queue.rate_per_s.as_ref(), ToString::to_string),
        others(queue),
    ]
}

fn in_words(seconds: &f64) -> String {
    let time = Duration::try_from_secs_f64(seconds.max(0.0).round()).unwrap_or(Duration::MAX);
    humantime::format_duration(time).to_string()
}

/// What few queues have.
fn others(queue: &QueueSummary) -> String {
    let burst = queue.burst.map(|burst| format!("burst {burst}"));
    let fair = queue.fair.then(|| "fair".to_owned());
    let holds = (queue.holds == Holds::Run).then(|| format!("holds run ({} hold a place)", queue.holding));
    let max_attempt = queue
        .max_attempt_s
        .as_ref()
        .map(|time| format!("max_attempt {}", in_words(time)));
    let all: Vec<String> = [burst, fair, holds, max_attempt].into_iter().flatten().collect();
    if all.is_empty() { "-".to_owned() } else { all.join(", ") }
}
