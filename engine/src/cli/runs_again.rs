//! `runs signal|retry|fork`: telling a run something, and doing again one that is over.

use serde_json::Value;
use uuid::Uuid;

use super::runs_bulk::{How, Target};
use super::start::read_params;
use super::{Context, Exit, Failure, Outcome};
use crate::inspect::{NotRepeated, RunAct};
use crate::lifecycle::{NewSignal, Signalled};
use crate::postgres::{Again, DatabaseError, RepeatRun};

#[derive(clap::Args)]
pub(super) struct SignalArgs {
    /// The run
    run: Uuid,
    /// The signal's name, for which its code waits
    name: String,
    /// What is told: a JSON document
    #[arg(value_name = "JSON", default_value = "null")]
    payload: String,
    /// Told once, however often it is asked for under this key
    #[arg(long)]
    key: Option<String>,
    /// Why, for the record
    #[arg(long)]
    reason: Option<String>,
}

#[derive(clap::Args)]
pub(super) struct RetryArgs {
    #[command(flatten)]
    target: Target,
    /// From this step on, by its path or its name, instead of the one that failed
    #[arg(long, value_name = "STEP", requires = "run")]
    from: Option<String>,
    #[command(flatten)]
    how: How,
}

#[derive(clap::Args)]
pub(super) struct ForkArgs {
    /// The run
    run: Uuid,
    /// The input of the new run: a JSON document, or @FILE, or @- for stdin; without it the same
    #[arg(long, value_name = "JSON|@FILE")]
    params: Option<String>,
    /// From this step on, by its path or its name; without it from the beginning
    #[arg(long, value_name = "STEP")]
    from: Option<String>,
    /// Its messages have the ids of that run's: consumers take those that they have for the same
    #[arg(long)]
    keep_message_ids: bool,
    /// Why, for the record
    #[arg(long)]
    reason: Option<String>,
}

impl SignalArgs {
    pub(super) async fn execute(self, context: &Context) -> Outcome {
        let payload: Value = serde_json::from_str(&self.payload).map_err(|error| {
            Failure::new(Exit::Usage, format!("what is told is not JSON: {error}"))
                .hint("give a JSON document such as '{\"approved\": true}'; a text is in quotes of its own: '\"yes\"'")
        })?;
        if self.name.is_empty() || self.name.len() > 100 || self.key.as_deref() == Some("") {
            return Err(Failure::new(
                Exit::Usage,
                "a signal's name has 1 to 100 bytes, and its key is not empty",
            ));
        }
        let (run, name) = (self.run, self.name.clone());
        let signal = NewSignal {
            run,
            name: self.name,
            payload,
            idempotency_key: self.key,
            actor: None,
            reason: self.reason,
        };
        let told = context.operator().await?.signal_run(&signal).await.map_err(of_signal)?;
        let outcome = match told {
            Signalled::Sent => "sent",
            Signalled::Known => "known",
            Signalled::Unknown => return Err(Failure::unknown_run(run)),
            Signalled::Over(status) => {
                return Err(Failure::new(Exit::Conflict, format!("run {run} is {status}")));
            }
            Signalled::Full => {
                let full = format!("run {run} has a thousand signals that it has not taken");
                return Err(Failure::new(Exit::Conflict, full).hint(format!("see `runs why {run}`")));
            }
        };
        let answer = serde_json::json!({ "run_id": run, "signal": name, "outcome": outcome });
        context.output.done(&answer, || format!("{run}\t{name}\t{outcome}\n"))
    }
}

/// What is too large is refused by the function.
fn of_signal(error: DatabaseError) -> Failure {
    match error.code() {
        Some("54000") => Failure::new(Exit::Usage, "what is told is larger than 64 KiB")
            .hint("store it in a table and tell the run where"),
        _ => Failure::of_write(error),
    }
}

impl RetryArgs {
    pub(super) async fn execute(self, context: &Context) -> Outcome {
        let Some(run) = self.target.run else {
            return self.target.act_on_all(context, RunAct::Retry, self.how, false).await;
        };
        let retry = RepeatRun {
            from: self.from,
            reason: self.how.reason,
            ..RepeatRun::retry(run)
        };
        repeat(context, &retry).await
    }
}

impl ForkArgs {
    pub(super) async fn execute(self, context: &Context) -> Outcome {
        let fork = RepeatRun {
            from: self.from,
            reason: self.reason,
            again: Again::Fork {
                params: self.params.as_deref().map(read_params).transpose()?,
                keep_message_ids: self.keep_message_ids,
            },
            ..RepeatRun::fork(self.run)
        };
        repeat(context, &fork).await
    }
}

async fn repeat(context: &Context, repeat: &RepeatRun) -> Outcome {
    let operator = context.operator().await?;
    let repeated = operator.repeat_run(repeat).await.map_err(Failure::of_write)?;
    let run = repeated.map_err(|why| {
        let failure = Failure::new(exit_of(&why), why.to_string());
        match why {
            NotRepeated::NoStep { run, .. } | NotRepeated::Completed(run) => {
                failure.hint(format!("see `runs show {run} --steps`"))
            }
            NotRepeated::Ambiguous { .. } => failure.hint("give the path"),
            _ => failure,
        }
    })?;
    // Of one that went on as others it may be the last. The run is made, whether or not that can be read.
    let made = async { context.inspector().await.ok()?.show_run(run, false).await.ok()? };
    let of = made.await.and_then(|made| made.run.forked_from).unwrap_or(repeat.run);
    let answer = serde_json::json!({ "run_id": run, "outcome": "new", "forked_from": of });
    context.output.done(&answer, || format!("{run}\tnew\n"))
}

fn exit_of(why: &NotRepeated) -> Exit {
    match why {
        NotRepeated::Unknown(_) | NotRepeated::Pruned(_) | NotRepeated::NoStep { .. } => Exit::NotFound,
        NotRepeated::Ambiguous { .. } | NotRepeated::TooLarge => Exit::Usage,
        NotRepeated::NotOver(..) | NotRepeated::NoCode(_) | NotRepeated::Completed(_) | NotRepeated::Held(_) => {
            Exit::Conflict
        }
    }
}
