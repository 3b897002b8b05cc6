//! `start WORKFLOW`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::runs_list::parse_attribute;
use super::wait::{Ended, interruptions, wait_for_end};
use super::{Context, Exit, Failure, Format, Outcome};
use crate::config::nearest;
use crate::lifecycle::{LARGEST_PARAMS, NewRun, Started, misfit_attributes, misnamed};
use crate::postgres::{DatabaseError, Inspector, Operator};
use crate::telemetry::TraceContext;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The workflow
    workflow: String,
    /// Its input: a JSON document, or @FILE, or @- for stdin
    #[arg(long, value_name = "JSON|@FILE", default_value = "{}")]
    params: String,
    /// Idempotency key: the same key finds the same run again, as long as that is kept (retention.runs)
    #[arg(long)]
    key: Option<String>,
    /// Singleton key: refused (4) while an unfinished run has it
    #[arg(long, value_name = "KEY")]
    singleton: Option<String>,
    /// Start no earlier: RFC 3339, or +10m
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<DateTime<Utc>>,
    /// Messages per second it may send
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pace: Option<i32>,
    /// It fails when it is not over this long after its start
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    deadline: Option<Duration>,
    #[command(flatten)]
    flow: FlowArgs,
    /// By what it is found later; may be given several times. What reads as a number or a boolean is one; "42" in quotes is a string
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = parse_attribute)]
    attributes: Vec<(String, serde_json::Value)>,
    /// Wait for its end; exits with 1 when it failed, was cancelled or was set aside
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this; the run goes on
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
}

/// Where and in what order it is claimed.
#[derive(clap::Args)]
struct FlowArgs {
    /// Claim it from this queue instead of the one with its workflow's name
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    queue: Option<String>,
    /// Claim it before runs of lower priority, even those queued up to 15 seconds earlier per step of priority: 0 to 20
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=20))]
    priority: u8,
    /// On whose behalf it runs: in a fair queue tenants take turns
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    tenant: Option<String>,
    /// Count it under this key where its queue has a limit for each key
    #[arg(long, value_name = "KEY", value_parser = parse_name)]
    limit_key: Option<String>,
    /// Give its input and time to the run that waits under this key, if one does; see --at
    #[arg(long, value_name = "KEY", value_parser = parse_name)]
    debounce: Option<String>,
}

#[derive(Serialize)]
struct Answer {
    run_id: Uuid,
    outcome: &'static str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    ended: Option<Ended>,
}

impl Args {
    pub(super) async fn execute(self, context: &Context) -> Outcome {
        known_workflow(context, &self.workflow)?;
        let request = self.request()?;
        if let Some(registry) = context.host.registry() {
            let misfit = |error: anyhow::Error| Failure::new(Exit::Usage, format!("--params: {error:#}"));
            registry.check(&self.workflow, &request.params).map_err(misfit)?;
        }
        let database = context.database().await?;
        let interrupted = if self.wait { Some(interruptions()?) } else { None };
        let operator = Operator::new(database.clone(), context.actor.clone()).at_terminal();
        let (run_id, outcome) = self.start(&operator, &request).await?;
        let mut answer = Answer {
            run_id,
            outcome,
            ended: None,
        };
        let Some(interrupted) = interrupted else {
            return context.output.done(&answer, || format!("{run_id}\t{outcome}\n"));
        };
        eprintln!("run {run_id} ({outcome})");
        let inspector = Inspector::new(database);
        let ended = wait_for_end(&inspector, run_id, self.timeout, interrupted).await;
        if let Ok(ended) = &ended {
            answer.ended = Some(match context.output.format {
                Format::Table => ended.clone(),
                Format::Json | Format::Jsonl => ended.clone().with_output(&inspector, run_id).await,
            });
        }
        context.output.one(&answer, || match &answer.ended {
            Some(ended) => format!("{run_id}\t{outcome}\t{}\n", ended.status),
            None => format!("{run_id}\t{outcome}\n"),
        })?;
        ended?.outcome(run_id)
    }

    fn request(&self) -> Result<NewRun, Failure> {
        for (flag, key) in [("--key", &self.key), ("--singleton", &self.singleton)] {
            if key.as_deref() == Some("") {
                return Err(Failure::new(Exit::Usage, format!("{flag} is empty")).hint("give a key or leave it out"));
            }
        }
        let attributes: serde_json::Map<_, _> = self.attributes.iter().cloned().collect();
        if let Some(wrong) = misfit_attributes(&attributes) {
            return Err(Failure::new(Exit::Usage, format!("--attribute: {wrong}")));
        }
        Ok(NewRun {
            attributes: (!attributes.is_empty()).then(|| attributes.into()),
            params: read_params(&self.params)?,
            singleton_key: self.singleton.clone(),
            idempotency_key: self.key.clone(),
            start_at: self.at,
            pace_per_s: self.pace,
            deadline: self.deadline,
            queue: self.flow.queue.clone(),
            priority: self.flow.priority,
            tenant: self.flow.tenant.clone(),
            limit_key: self.flow.limit_key.clone(),
            debounce_key: self.flow.debounce.clone(),
            traceparent: std::env::var("TRACEPARENT")
                .ok()
                .filter(|text| TraceContext::parse(text).is_some()),
            ..NewRun::new(self.workflow.clone())
        })
    }

    async fn start(&self, operator: &Operator, request: &NewRun) -> Result<(Uuid, &'static str), Failure> {
        let key = self.singleton.as_deref().unwrap_or_default();
        match operator.start(request).await.map_err(|error| self.lost(error))? {
            Started::New(run) => Ok((run, "new")),
            Started::Found(run) => Ok((run, "found")),
            Started::Debounced(run) => Ok((run, "debounced")),
            Started::Held => Err(Failure::new(
                Exit::Conflict,
                format!("another unfinished run holds singleton key {key}"),
            )
            .hint("wait for it (`runs list`), cancel it, or use another key")),
            Started::Busy => {
                let what = match &self.flow.debounce {
                    Some(key) if self.singleton.is_none() => format!("debounce key {key} is contended"),
                    _ => format!("singleton key {key} is contended"),
                };
                Err(Failure::new(Exit::Conflict, what).hint("try again"))
            }
        }
    }

    fn lost(&self, error: DatabaseError) -> Failure {
        let failure = Failure::of_write(error);
        if failure.changed == super::Changed::Unknown && self.key.is_none() {
            return failure.hint("look with `runs list` before you start it again; with --key a repeat is safe");
        }
        failure
    }
}

fn known_workflow(context: &Context, name: &str) -> Result<(), Failure> {
    let known = context.host.workflows();
    if known.is_empty() || known.iter().any(|known| known == name) {
        return Ok(());
    }
    let hint = match nearest(name, known.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("this binary has: {}", known.join(", ")),
    };
    Err(Failure::new(Exit::NotFound, format!("there is no workflow {name}")).hint(hint))
}

/// The exact bytes of a JSON document.
pub(super) fn read_params(text: &str) -> Result<Vec<u8>, Failure> {
    let unreadable =
        |error: std::io::Error| Failure::new(Exit::Usage, format!("--params {text} cannot be read: {error}"));
    let bytes = match text.strip_prefix('@') {
        Some("-") => {
            let mut bytes = Vec::new();
            let mut stdin = std::io::Read::take(std::io::stdin(), LARGEST_PARAMS as u64 + 1);
            std::io::Read::read_to_end(&mut stdin, &mut bytes).map_err(unreadable)?;
            bytes
        }
        Some(path) => std::fs::read(path).map_err(unreadable)?,
        None => text.as_bytes().to_vec(),
    };
    if bytes.len() > LARGEST_PARAMS {
        return Err(
            Failure::new(Exit::Usage, format!("--params is larger than {LARGEST_PARAMS} bytes"))
                .hint("store the input in a table and give its id"),
        );
    }
    serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).map_err(|error| {
        Failure::new(Exit::Usage, format!("--params is not JSON: {error}"))
            .hint("give a JSON document such as '{\"day\": \"2026-01-31\"}', or @FILE")
    })?;
    Ok(bytes)
}

pub(super) fn parse_name(text: &str) -> Result<String, String> {
    match misnamed(text) {
        Some(why) => Err(format!("it {why}")),
        None => Ok(text.to_owned()),
    }
}

pub(super) fn parse_time(text: &str) -> Result<DateTime<Utc>, String> {
    if let Some(delay) = text.strip_prefix(['+', '-']) {
        let delay = humantime::parse_duration(delay).map_err(|error| error.to_string())?;
        let delay = chrono::TimeDelta::from_std(delay).map_err(|_| "too far away".to_owned())?;
        return Utc::now()
            .checked_add_signed(if text.starts_with('-') { -delay } else { delay })
            .ok_or_else(|| "too far away".to_owned());
    }
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.to_utc())
        .map_err(|_| "expected RFC 3339 such as 2026-01-31T06:00:00Z, or a delay such as +10m".to_owned())
}
