//! `verify`: reads a run's topics back and compares them with the tables.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use indicatif::{ProgressBar, ProgressStyle};
use uuid::Uuid;

use super::runs::without_proof;
use super::{Context, Exit, Failure, Outcome};
use crate::lifecycle::FleetError;
use crate::postgres::{Inspector, PostgresRunTables};
use crate::verify::{VerifyError, VerifyRequest, verify};

/// A large run's tables are read in pages, each of which may take its time.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// Records between two looks at the progress bar.
const TELL_EVERY: u64 = 10_000;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The run
    run: Uuid,
    /// Topics that its fan-outs send to, instead of those of the configuration
    #[arg(long = "topic", value_name = "TOPIC")]
    topics: Vec<String>,
    /// Records from then on, an instant such as 2026-03-01T06:00:00Z or a duration such as 2h; without it from a little
    /// before the run was started
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    since: Option<DateTime<Utc>>,
}

impl Args {
    pub(super) async fn execute(self, context: &Context) -> Outcome {
        let unusable = |error: anyhow::Error| Failure::new(Exit::Usage, format!("{error:#}"));
        let reader = context.host.topic_reader(context.config()).map_err(unusable)?;
        let database = context.database_within(PATIENCE).await?;
        let tables = PostgresRunTables::new(database.clone());
        let configured = || context.config().topics.values().cloned().collect();
        let topics: BTreeSet<String> = match self.topics.is_empty() {
            true => configured(),
            false => self.topics.into_iter().collect(),
        };
        let request = VerifyRequest {
            run: self.run,
            topics,
            since: self.since,
            window: u64::from(context.config().kafka.window),
        };
        let bar = progress_bar();
        let told = bar.clone();
        let progress = move |records: u64| {
            if records.is_multiple_of(TELL_EVERY) {
                told.set_position(records);
            }
        };
        let report = verify(&tables, reader, request, progress).await;
        bar.finish_and_clear();
        let report = match report {
            Err(VerifyError::NoRun(run)) => return Err(without_proof(&Inspector::new(database), run).await?),
            report => report.map_err(failure)?,
        };
        context.output.one(&report, || format!("{report}\n"))?;
        Ok(if report.holds { Exit::Ok } else { Exit::Problems })
    }
}

/// Hidden by the library when stderr is not a terminal.
fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {human_pos} records read, {per_sec}, {elapsed}");
    let bar = ProgressBar::new_spinner();
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn failure(error: VerifyError) -> Failure {
    match error {
        VerifyError::NoRun(run) => Failure::unknown_run(run),
        VerifyError::Tables(FleetError::Unanswered(_)) => Failure::new(Exit::Unreachable, error.to_string()),
        VerifyError::Tables(_) => Failure::new(Exit::Failed, error.to_string()),
        VerifyError::Topic { .. } => Failure::new(Exit::Unreachable, error.to_string())
            .hint("check KAFKA_BROKERS and the client's rights; --topic names the topics of the run's fan-outs"),
    }
}

fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.to_utc());
    }
    let ago = humantime::parse_duration(text).map_err(|_| "neither an instant nor a duration".to_owned())?;
    chrono::Duration::from_std(ago)
        .ok()
        .and_then(|ago| Utc::now().checked_sub_signed(ago))
        .ok_or_else(|| "too long ago".to_owned())
}
