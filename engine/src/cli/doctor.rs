//! `doctor`: every check says what it looked at, what it found and what to do.

use serde::Serialize;
use uuid::Uuid;

use super::{Context, Exit, Outcome, doctor_fleet, doctor_kafka, doctor_postgres, doctor_run};
use crate::config::{Config, ConfigError};
use crate::secured::Exposed;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Leave Kafka out
    #[arg(long)]
    skip_kafka: bool,
    /// Look at all that is written of one run, instead of all else
    #[arg(long, value_name = "RUN", conflicts_with = "skip_kafka")]
    run: Option<Uuid>,
}

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Ok,
    /// It works, but not as well or as safely as it could.
    Warn,
    /// It does not work.
    Fail,
    /// Not looked at, because something before it failed or it is not there.
    Skip,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) id: String,
    pub(super) status: Status,
    pub(super) evidence: String,
    pub(super) fix: Option<String>,
}

impl Check {
    pub(super) fn new(id: impl Into<String>, status: Status, evidence: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            status,
            evidence: evidence.into(),
            fix: None,
        }
    }

    pub(super) fn ok(id: impl Into<String>, evidence: impl Into<String>) -> Self {
        Self::new(id, Status::Ok, evidence)
    }

    pub(super) fn warn(id: impl Into<String>, evidence: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            fix: Some(fix.into()),
            ..Self::new(id, Status::Warn, evidence)
        }
    }

    pub(super) fn fail(id: impl Into<String>, evidence: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            fix: Some(fix.into()),
            ..Self::new(id, Status::Fail, evidence)
        }
    }

    pub(super) fn skip(id: impl Into<String>, evidence: impl Into<String>) -> Self {
        Self::new(id, Status::Skip, evidence)
    }
}

impl Args {
    pub(super) async fn execute(self, context: &Context) -> Outcome {
        let checks = match self.run {
            Some(run) => doctor_run::checks(context, run).await?,
            None => self.all(context).await,
        };
        context
            .output
            .list(&["check", "status", "evidence", "fix"], &checks, |check| {
                let status = match check.status {
                    Status::Ok => "ok",
                    Status::Warn => "warn",
                    Status::Fail => "FAIL",
                    Status::Skip => "skip",
                };
                vec![
                    check.id.clone(),
                    status.to_owned(),
                    check.evidence.clone(),
                    check.fix.clone().unwrap_or_default(),
                ]
            })?;
        let failed = checks.iter().filter(|check| check.status == Status::Fail).count();
        if failed > 0 {
            eprintln!("{failed} of {} checks failed", checks.len());
            return Ok(Exit::Problems);
        }
        Ok(Exit::Ok)
    }

    async fn all(&self, context: &Context) -> Vec<Check> {
        let config = context.config();
        let mut checks = configuration(config);
        let database = doctor_postgres::checks(config, &mut checks).await;
        doctor_fleet::checks(context, database.as_ref(), &mut checks).await;
        if !self.skip_kafka {
            doctor_kafka::checks(context, &mut checks).await;
        }
        checks
    }
}

/// Whether the way to a server is safe.
pub(super) fn tls(id: &str, way: Result<String, Exposed>) -> Check {
    match way {
        Ok(said) => Check::ok(id, said),
        Err(Exposed { evidence, fix }) => Check::warn(id, evidence, fix),
    }
}

fn configuration(config: &Config) -> Vec<Check> {
    match config.validate() {
        Ok(()) => vec![Check::ok(
            "config.values",
            "every value is in range and they go together",
        )],
        Err(ConfigError::Invalid(problems)) => problems
            .into_iter()
            .map(|problem| {
                let evidence = format!("{} = {}: {}", problem.key, problem.value, problem.wrong);
                Check::fail(format!("config.{}", problem.key), evidence, problem.fix)
            })
            .collect(),
        Err(other) => vec![Check::fail(
            "config.values",
            other.to_string(),
            "correct the configuration",
        )],
    }
}
