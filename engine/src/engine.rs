//! An engine: workflows, put together with Postgres, and Kafka where brokers are configured, into a replica.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::brokers::{breaker_policy, has_brokers, kafka_config, publisher};
use crate::cli::{ExtraCommand, Host, Roles};
use crate::client::Client;
use crate::config::Config;
use crate::delivery::{
    Breakers, CommandDoor, OutboxParts, OutboxRelay, OutboxStore, Publisher, RedeliveryLoop, RedeliveryParts, Topics,
    UndeliveredStore,
};
use crate::execution::{Executor, ExecutorParts, Hints, be_present, going_on};
use crate::health::{Health, Watched, watch};
use crate::kafka::KafkaPublisher;
use crate::leader::{
    LeaderSettings, LeaderStore, LeaderStores, MeasureStore, RetentionSettings, RetentionStore, ScheduleStore,
};
use crate::lifecycle::{Counts, Fleet, Heartbeat, QueueSettings, RunStore, SystemClock};
use crate::local::Local;
use crate::postgres::{
    DEAF, Database, DatabaseSettings, FleetSettings, Operator, PostgresFleet, PostgresLeader, PostgresOutbox,
    PostgresRunStore, PostgresUndelivered, SchemaError, listen,
};
use crate::serving::Serving;
use crate::settings::{execution_settings, outbox_settings, redelivery_settings};
use crate::telemetry::closed::Pool;
use crate::telemetry::{self, FleetTold, Timed};
use crate::workflow::{Registry, Resources, Workflow};

/// What the loop that leads is called in health.
const LEADERSHIP: &str = "leadership";
/// Renewal, schedules, sweep and retention at once.
const LEADER_CONNECTIONS: u32 = 3;
/// Four groups of checkpoints on their way, two of starts and two of runs that are let go of, or a page that is claimed.
const GROUP_CONNECTIONS: u32 = 8;
/// Connections that a replica of all roles takes beside those of `database.max_connections`; one hears what is rung.
pub(crate) const CONNECTIONS_BESIDE: u32 = 1 + LEADER_CONNECTIONS + GROUP_CONNECTIONS;
/// Between tries to set what the binary says of queues.
const DECLARE_PAUSE: Duration = Duration::from_secs(1);
/// How long Kafka gets to settle what is on its way when everything else has ended.
const LAST_OUTCOMES: Duration = Duration::from_secs(2);

/// Where an engine begins: `Engine::builder()`.
#[derive(Debug, Clone, Copy)]
pub struct Engine;

impl Engine {
    /// An engine without workflows.
    #[must_use]
    pub fn builder() -> EngineBuilder {
        EngineBuilder {
            registry: Registry::default(),
            resources: Resources::default(),
            commands: Vec::new(),
            door: None,
            local: Arc::default(),
        }
    }
}

/// What a binary is made of. Hand it to [`crate::cli::main`] for the whole command line, or [`EngineBuilder::run`] it.
#[derive(Clone)]
pub struct EngineBuilder {
    registry: Registry,
    resources: Resources,
    commands: Vec<fn() -> Box<dyn ExtraCommand>>,
    door: Option<Arc<dyn CommandDoor>>,
    local: Arc<Local>,
}

impl EngineBuilder {
    /// Adds a workflow. Each has a name of its own: with two of one name no replica starts.
    #[must_use]
    pub fn workflow<W: Workflow>(mut self, workflow: W) -> Self {
        self.registry.add(workflow);
        self
    }

    /// Sets limits of a queue when the first replica starts that says so. What is set then is changed by operators only:
    /// `lockgate queues sync` sets it to what the binary says.
    #[must_use]
    pub fn queue(mut self, settings: QueueSettings) -> Self {
        self.registry.add_queue(settings);
        self
    }

    /// Gives sources and steps a value to use, one a type.
    #[must_use]
    pub fn resource<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.resources.insert(value);
        self
    }

    /// Adds a command to the command line.
    #[must_use]
    pub fn command(mut self, command: fn() -> Box<dyn ExtraCommand>) -> Self {
        self.commands.push(command);
        self
    }

    /// Hands the commands of the HTTP API over through this door, instead of an orchestrator that is started for it.
    #[must_use]
    pub fn command_door(mut self, door: Arc<dyn CommandDoor>) -> Self {
        self.door = Some(door);
        self
    }

    /// A client of this database in the process of this engine: while it runs here and has room, runs begin in the moment
    /// they are started, and their ends are told and not asked for.
    #[must_use]
    pub fn client(&self, database: Database) -> Client {
        Client::beside(database, self.local.clone())
    }

    /// Runs a replica until told to stop, then drains it. A database, or brokers, that are away are waited for. Dropped before, all
    /// of it ends and nobody waits for that: what is in flight is handed back, or recovered when its leases end.
    ///
    /// # Errors
    /// The configuration, a name, the port of the API or the limits of a queue cannot be used, before a run or batch is claimed;
    /// or, at the end, it did not drain in time or the schema does not fit.
    pub async fn run(&self, config: Config, roles: Roles, stop: CancellationToken) -> anyhow::Result<()> {
        self.run_watched(config, roles, Health::default(), stop).await
    }

    /// The same, and says how it is.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_watched(
        &self,
        config: Config,
        roles: Roles,
        health: Health,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        self.registry.check_names()?;
        let replica = telemetry::replica_id();
        let database = Database::new(&config.database_settings()?)?.named(Pool::Main);
        let (stop, background) = (stop.child_token(), CancellationToken::new());
        // Whoever leaves with an error leaves no part of the replica behind.
        let _over = (stop.clone().drop_guard(), background.clone().drop_guard());
        let (api, door) = match roles.api {
            true => self.serve(&config, health.clone(), stop.clone()).await?,
            false => (None, None),
        };
        let watching = watch(&config, roles.worker || roles.api, &database, &health, &stop)?;
        let fleet: Arc<dyn Fleet> = Arc::new(PostgresFleet::new(database.clone(), fleet_settings(&config, replica)));
        let fleet: Arc<dyn Fleet> = Timed::new(fleet, database.namespace());
        let hints = self.hints(&config, roles, &health);
        let through_pooler = config.database.pooler_mode && config.database.url_direct.is_none();
        let listener = tokio::spawn(listen(
            config.direct_settings()?.url,
            Arc::new(on_hint(hints.clone(), through_pooler)),
            background.clone(),
        ));
        let host = telemetry::host();
        tracing::info!(name: "replica_started", %replica, host, %roles, workflows = ?self.registry.names(), "replica started");
        let leader = match roles.leader {
            true => Some(tokio::spawn(lead(
                &config,
                replica,
                fleet.clone(),
                hints.clone(),
                health.clone(),
                stop.clone(),
            )?)),
            false => None,
        };
        let drained = if roles.worker {
            let place = Place {
                replica,
                roles,
                database: database.clone(),
                fleet,
                hints,
                door,
            };
            self.work(&config, place, stop).await?
        } else {
            let own = || present(replica, roles, door.as_deref());
            be_present(fleet, own, config.lease.renew, stop).await;
            true
        };
        let answered = match api {
            Some(api) => api.await.context("the HTTP API panicked")?,
            None => true,
        };
        if let Some(leader) = leader {
            leader.await.context("the leader's side panicked")?;
        }
        background.cancel();
        let _ = listener.await;
        health.forget_loops();
        let unfit = watching.await.context("the watch over the servers panicked")?;
        database.close().await;
        tracing::info!(name: "replica_stopped", %replica, drained, "replica stopped");
        ended(drained, answered, unfit)
    }

    /// The hints of a replica, of whose loops its health is told.
    fn hints(&self, config: &Config, roles: Roles, health: &Health) -> Arc<Hints> {
        let hints = Hints {
            local: self.local.clone(),
            ..Hints::default()
        };
        if roles.worker {
            let longest = longest_turn(config, config.lease.renew);
            health.watch_pulse("leases", hints.leases.clone(), longest);
        }
        Arc::new(hints)
    }

    /// Listens for the HTTP API and answers from then on; what its commands are sent by, if that is known.
    async fn serve(
        &self,
        config: &Config,
        health: Health,
        stop: CancellationToken,
    ) -> anyhow::Result<(Option<JoinHandle<bool>>, Option<Arc<Breakers>>)> {
        let serving = Serving::bind(config, &self.registry, self.door.clone(), health, stop).await?;
        let breakers = serving.breakers();
        Ok((Some(tokio::spawn(serving.serve())), breakers))
    }

    async fn work(&self, config: &Config, place: Place, stop: CancellationToken) -> anyhow::Result<bool> {
        let breakers = Arc::new(Breakers::new(breaker_policy(config)));
        let publisher = publisher(config, breakers.clone())?;
        for topic in config.topics.values() {
            publisher.warm_up(topic).await;
        }
        let mut resources = self.resources.clone();
        if resources.get::<Database>().is_none() {
            resources.insert(place.database.clone());
        }
        let namespace = place.database.namespace();
        let undelivered: Arc<dyn UndeliveredStore> =
            Arc::new(PostgresUndelivered::new(place.database.clone(), place.replica));
        let redelivery = RedeliveryLoop::new(RedeliveryParts {
            store: Timed::new(undelivered, namespace.clone()),
            publisher: publisher.clone(),
            breakers: breakers.clone(),
            settings: redelivery_settings(config),
            hint: place.hints.undelivered.clone(),
        });
        declare_queues(&place.database, &self.registry, &stop).await?;
        let transactions = place.database.clone();
        let outbox: Arc<dyn OutboxStore> = Arc::new(PostgresOutbox::new(place.database, place.replica));
        let outbox = OutboxRelay::new(OutboxParts {
            store: Timed::new(outbox, namespace.clone()),
            publisher: publisher.clone(),
            breakers: breakers.clone(),
            topics: Topics::new(&config.topics),
            settings: outbox_settings(config),
        });
        let runs: Arc<dyn RunStore> = Arc::new(run_store(config, place.replica)?.transactions_on(transactions));
        let executor = Executor::new(ExecutorParts {
            fleet: place.fleet,
            runs: Timed::new(runs, namespace),
            publisher: publisher.clone(),
            breakers,
            door: place.door,
            registry: self.registry.clone(),
            resources,
            settings: execution_settings(config, place.roles, place.replica),
            hints: place.hints,
            clock: Arc::new(SystemClock),
        });
        let send_what_waits = async {
            // Nothing is claimed that could not be sent: others may have brokers.
            if !has_brokers(config) {
                return true;
            }
            let (redelivered, relayed) = tokio::join!(
                going_on("redelivery", || redelivery.run(stop.clone())),
                going_on("outbox", || outbox.run(stop.clone()))
            );
            redelivered && relayed
        };
        let (executed, sent) = tokio::join!(executor.run(stop.clone()), send_what_waits);
        publisher.shutdown(LAST_OUTCOMES).await;
        Ok(executed && sent)
    }
}

/// How long a turn of a loop may take that asks Postgres once in this time: a database that is away must not make a process
/// seem dead that waits for it.
fn longest_turn(config: &Config, period: Duration) -> Duration {
    (period + config.database.deadline) * 2
}

/// How a replica ended: whether it drained, answered all requests and had a schema that fits.
fn ended(drained: bool, answered: bool, unfit: Option<SchemaError>) -> anyhow::Result<()> {
    anyhow::ensure!(
        drained,
        "the drain deadline passed; what was held is recovered when its leases end"
    );
    anyhow::ensure!(
        answered,
        "the drain deadline passed before all requests had ended and all commands had a place"
    );
    unfit.map_or(Ok(()), |error| Err(error.into()))
}

/// Sets what the binary says of queues for which nothing is set, before anything is claimed from them. A database that is
/// away is waited for: without it nothing is claimed either.
async fn declare_queues(database: &Database, registry: &Registry, stop: &CancellationToken) -> anyhow::Result<()> {
    let operator = Operator::new(database.clone(), None);
    for settings in registry.queues() {
        let wrong = |why| anyhow::anyhow!("queue {}: {why}", settings.name);
        settings.check().map_err(wrong)?;
        while let Err(error) = operator.set_queue(settings, Some("declared by code"), true).await {
            anyhow::ensure!(!error.is_for_good(), "queue {} cannot be set: {error}", settings.name);
            tracing::warn!(name: "queue_not_declared", queue = settings.name, %error, "the queue is not set yet");
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(DECLARE_PAUSE) => {}
            }
        }
    }
    Ok(())
}

/// A replica and what its sides share.
struct Place {
    replica: Uuid,
    roles: Roles,
    database: Database,
    fleet: Arc<dyn Fleet>,
    hints: Arc<Hints>,
    /// What commands over HTTP are sent by.
    door: Option<Arc<Breakers>>,
}

/// What a replica without a worker's side says of itself.
fn present(replica: Uuid, roles: Roles, door: Option<&Breakers>) -> Heartbeat {
    Heartbeat {
        replica,
        roles: roles.names(),
        runnable: Vec::new(),
        draining: false,
        in_flight: 0,
        window_used: 0,
        window_size: 0,
        breakers: Breakers::report(door),
        counts: Counts::default(),
        clock_offset: None,
    }
}

/// The leader's side, on connections of its own: busy workers must not starve the renewal of its lease.
fn lead(
    config: &Config,
    replica: Uuid,
    fleet: Arc<dyn Fleet>,
    hints: Arc<Hints>,
    health: Health,
    stop: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()> + Send + use<>> {
    let own = DatabaseSettings {
        max_connections: LEADER_CONNECTIONS,
        ..config.database_settings()?
    };
    let database = Database::new(&own)?.named(Pool::Leader);
    let namespace = database.namespace();
    let leader = Arc::new(PostgresLeader::new(database, replica));
    let lease: Arc<dyn LeaderStore> = leader.clone();
    let schedules: Arc<dyn ScheduleStore> = leader.clone();
    let retention: Arc<dyn RetentionStore> = leader.clone();
    let measures: Arc<dyn MeasureStore> = leader;
    let pulse = health.watch_loop(LEADERSHIP, longest_turn(config, config.leader.lease));
    let stores = LeaderStores {
        lease: Arc::new(Watched {
            store: Timed::new(lease, namespace.clone()),
            pulse,
        }),
        fleet,
        schedules: Timed::new(schedules, namespace.clone()),
        retention: Timed::new(retention, namespace.clone()),
        measures: Timed::new(measures, namespace),
        gauges: Arc::new(FleetTold::by(telemetry::meters())),
    };
    let settings = leader_settings(config)?;
    let (term, _) = watch::channel(None);
    Ok(async move {
        crate::leader::lead(settings, stores, hints.leader.clone(), term, stop).await;
        // What is drained beside it may take longer than a turn of it.
        health.forget_loop(LEADERSHIP);
    })
}

fn leader_settings(config: &Config) -> anyhow::Result<LeaderSettings> {
    let retention = RetentionSettings {
        runs: config.retention.runs,
        transitions: config.retention.transitions,
        undelivered: config.retention.undelivered,
        replicas: config.retention.replicas,
        inbox: config.retention.inbox,
        measures: config.retention.measures,
        page: i32::try_from(config.retention.page)?,
        ..RetentionSettings::default()
    };
    Ok(LeaderSettings {
        lease: config.leader.lease,
        renew: config.leader.renew,
        sweep: config.lease.sweep,
        measure: config.telemetry.fleet_interval,
        retention,
        ..LeaderSettings::default()
    })
}

impl Host for EngineBuilder {
    fn workflows(&self) -> Vec<String> {
        self.registry.names()
    }

    fn registry(&self) -> Option<&Registry> {
        Some(&self.registry)
    }

    fn run(
        self: Arc<Self>,
        config: Config,
        roles: Roles,
        health: Health,
        stop: CancellationToken,
    ) -> BoxFuture<'static, anyhow::Result<()>> {
        async move { self.run_watched(config, roles, health, stop).await }.boxed()
    }

    fn publisher(&self, config: &Config) -> anyhow::Result<Arc<dyn Publisher>> {
        Ok(Arc::new(KafkaPublisher::start(kafka_config(config)?, Arc::new(()))?))
    }

    fn commands(&self) -> Vec<Box<dyn ExtraCommand>> {
        self.commands.iter().map(|make| make()).collect()
    }

    fn start_telemetry(&self, config: &Config, default_level: &str) -> Box<dyn Any + Send> {
        Box::new(telemetry::start(config, "lockgate", default_level))
    }
}

/// Through a pooler one may listen, and hears nothing.
fn on_hint(hints: Arc<Hints>, through_pooler: bool) -> impl Fn(&str) + Send + Sync {
    move |payload| {
        let is_heard = payload != DEAF && !through_pooler;
        hints.listening.store(is_heard, Ordering::Relaxed);
        hints.leader.schedules.hears(is_heard);
        match payload {
            DEAF => {}
            // A run that was only started has no batches yet.
            "start" => hints.runs.notify_one(),
            "stop" => hints.stops.notify_one(),
            "queue" => hints.queues_changed(),
            "leader" => hints.leader.resigned.notify_one(),
            "schedule" => hints.leader.schedules.ring(),
            "undelivered" => hints.undelivered.notify_one(),
            _ => hints.ring(),
        }
    }
}

/// On connections of their own: busy workers must not hold up checkpoints.
fn run_store(config: &Config, replica: Uuid) -> anyhow::Result<PostgresRunStore> {
    let own = DatabaseSettings {
        max_connections: GROUP_CONNECTIONS,
        ..config.database_settings()?
    };
    let database = Database::for_groups(&own)?.named(Pool::Groups);
    Ok(PostgresRunStore::new(database, replica, config.lease.duration))
}

fn fleet_settings(config: &Config, replica: Uuid) -> FleetSettings {
    FleetSettings {
        replica,
        lease: config.lease.duration,
        max_deaths: i16::try_from(config.lease.max_deaths).unwrap_or(i16::MAX),
        stale_after: config.lease.duration,
        first_redelivery: config.redelivery.first_delay,
    }
}
