//! Replicas and clients in one process: a command for crash tests, and a replica in the test's own process.

use lockgate::cli::{Execute, Exit, Failure, Outcome, Roles};
use lockgate::config::{Config, Secret};
use lockgate::postgres::Database;
use lockgate::{Engine, EngineBuilder};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

use crate::chaos_steps::{ChaosSteps, Plan};
use crate::kafka_brokers;

/// Runs a replica and starts runs of `chaos-steps` in its process, one after the other, waiting for each
#[derive(clap::Args)]
pub struct StartBeside {
    /// How many
    count: usize,
    /// What each does
    plan: String,
}

impl Execute for StartBeside {
    const NAME: &'static str = "start-beside";

    async fn execute(self, context: &lockgate::cli::Context) -> Outcome {
        let failed = |error: anyhow::Error| Failure::new(Exit::Failed, format!("{error:#}"));
        let plan: Plan = serde_json::from_str(&self.plan).map_err(|error| failed(error.into()))?;
        let engine = Engine::builder().workflow(ChaosSteps);
        let client = engine.client(context.database().await?);
        let stop = CancellationToken::new();
        let replica = tokio::spawn({
            let (config, stop) = (context.config().clone(), stop.clone());
            async move { engine.run(config, Roles::USUAL, stop).await }
        });
        for _ in 0..self.count {
            let run = client.start::<ChaosSteps>(&plan).send().await;
            let run = run.map_err(|error| failed(error.into()))?;
            eprintln!("started {}", run.id());
            run.result().await.map_err(|error| failed(error.into()))?;
        }
        stop.cancel();
        replica.await.map_err(|error| failed(error.into()))?.map_err(failed)?;
        Ok(Exit::Ok)
    }
}

/// A replica in this process, until it is dropped.
pub struct InProcess {
    _stop: DropGuard,
    running: JoinHandle<anyhow::Result<()>>,
}

impl InProcess {
    /// Starts it on a database, with settings of its own.
    #[must_use]
    pub fn start(engine: &EngineBuilder, url: &str, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.database.url = Some(Secret::new(url));
        config.kafka.brokers = Some(kafka_brokers().to_owned());
        change(&mut config);
        let (stop, engine) = (CancellationToken::new(), engine.clone());
        let stopped = stop.clone();
        let roles = Roles {
            leader: false,
            ..Roles::USUAL
        };
        Self {
            _stop: stop.drop_guard(),
            running: tokio::spawn(async move { engine.run(config, roles, stopped).await }),
        }
    }

    /// Whether it still works.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.running.is_finished()
    }
}

/// The database of a client, as any application makes it.
#[must_use]
pub fn database(url: &str) -> Database {
    Database::new(&lockgate::postgres::DatabaseSettings::new(url)).expect("the tests' URL can be used")
}
