//! `run`: one replica, from the first connection to the end of its drain.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::connect::{Patience, wait_for_kafka, wait_for_postgres};
use super::{Changed, Context, Exit, Failure, Outcome, Roles};
use crate::brokers::has_brokers;
use crate::health::{Health, Part, tell};
use crate::postgres::{Database, Migrator, SchemaError};
use crate::telemetry::{have_roles, say};

/// Beyond the drain's own deadline: time to say what was left. Whoever stops a replica must wait longer than both.
pub const GRACE: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub(super) struct Args {
    /// What this replica does: leader, worker, api or several with commas; without it leader and worker, and api where
    /// api.listen is set
    #[arg(long)]
    roles: Option<Roles>,
    /// Wait no longer than this for Postgres and Kafka to be reachable; without it for ever
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
}

impl Args {
    pub(super) async fn execute(self, context: &Context) -> Outcome {
        context.config().validate()?;
        context.loaded.warn_of_open_files();
        let stop = CancellationToken::new();
        let mut signals = Signals::listen()?;
        let health = Health::default();
        // Told until the process ends, so that a replica that waits or drains is seen.
        let over = CancellationToken::new();
        let _over = over.clone().drop_guard();
        let told = tell(context.config().health.listen.as_deref(), &health, over).await;
        told.map_err(|error| {
            Failure::new(Exit::Failed, format!("{error:#}")).hint("set health.listen to a free address of this machine")
        })?;
        let work = self.work(context, health.clone(), stop.clone());
        tokio::pin!(work);
        tokio::select! {
            outcome = &mut work => return outcome,
            name = signals.next() => say(&format!("{name}: draining, a second signal ends it at once")),
        }
        health.say(Part::Replica, Err::<&str, _>("draining"));
        stop.cancel();
        let deadline = context.config().drain.deadline + GRACE;
        tokio::select! {
            outcome = &mut work => outcome,
            _ = signals.next() => {
                say("ended at once; what was held is recovered when its leases end");
                Ok(Exit::Interrupted)
            }
            () = tokio::time::sleep(deadline) => {
                let what = format!("the drain took longer than {}", humantime::format_duration(deadline));
                Err(Failure::new(Exit::Failed, what).changed(Changed::Said).hint("what was held is recovered when its leases end"))
            }
        }
    }

    async fn work(&self, context: &Context, health: Health, stop: CancellationToken) -> Outcome {
        let config = context.config();
        let roles = self.roles(context)?;
        let prepared = self.prepare(context, roles, &health, &stop).await;
        if stop.is_cancelled() {
            say("stopped before it had started");
            return Ok(Exit::Ok);
        }
        prepared?;
        let host = Arc::clone(&context.host);
        match host.run(config.clone(), roles, health, stop).await {
            Ok(()) => Ok(Exit::Ok),
            Err(error) => Err(match error.downcast::<SchemaError>() {
                Ok(schema) => Failure::from(schema).changed(Changed::Said),
                Err(error) => {
                    Failure::new(Exit::Failed, format!("the replica ended: {error:#}")).changed(Changed::Said)
                }
            }),
        }
    }

    /// Says in all that is told of the process what it does; roles that cannot be are said later.
    pub(super) fn tell_roles(&self, context: &Context) {
        if let Ok(roles) = self.roles(context) {
            have_roles(&roles.to_string());
        }
    }

    fn roles(&self, context: &Context) -> Result<Roles, Failure> {
        let listens = context.config().api.listen.is_some();
        match self.roles {
            None => Ok(Roles {
                api: listens,
                ..Roles::USUAL
            }),
            Some(roles) if roles.api && !listens => {
                Err(Failure::new(Exit::Usage, "role api has no address to listen at")
                    .hint("set LOCKGATE_API_LISTEN or api.listen, such as 127.0.0.1:8080"))
            }
            Some(roles) => Ok(roles),
        }
    }

    /// Servers that are there, let us in and fit, before anything is claimed.
    async fn prepare(
        &self,
        context: &Context,
        roles: Roles,
        health: &Health,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        let config = context.config();
        let settings = config.database_settings()?;
        let mut patience = Patience::new(self.wait, health.clone(), stop.clone());
        wait_for_postgres(&settings, &mut patience).await?;
        let database = Database::new(&settings)?;
        let checked = Migrator::new(database.clone()).check().await;
        database.close().await;
        checked?;
        if !roles.worker || !has_brokers(config) {
            return Ok(());
        }
        let unusable = |error: anyhow::Error| Failure::new(Exit::Usage, format!("{error:#}"));
        let publisher = context.host.publisher(config).map_err(unusable)?;
        let answered = wait_for_kafka(publisher.as_ref(), config, &mut patience).await;
        publisher.shutdown(Duration::from_secs(1)).await;
        answered
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let failed = |error| Failure::new(Exit::Failed, format!("signals cannot be listened for: {error}"));
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
