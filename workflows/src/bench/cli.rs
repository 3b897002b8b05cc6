//! The command `bench`.

use clap::{Args, Subcommand, ValueEnum};
use lockgate::cli::{Changed, Context, Execute, Exit, Failure, Outcome};

use super::telemetry_sink::sink;
use super::{
    BigSettings, CommandsSettings, Density, FanoutSettings, HttpSettings, OutboxSettings, Part, SenderSettings,
    WorkflowsSettings, commands, fanout, http, outbox, sender, workflows,
};
use super::{CapacitySettings, ReplicasSettings, TelemetrySettings, capacity, processes, replicas, telemetry};

/// Measure the engine against a loop written by hand, in a database and topics made for it
#[derive(Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Subcommand)]
enum BenchCommand {
    /// Many items of a table into a topic: engine, hand-written loop, and producer alone
    Fanout(FanoutArgs),
    /// E-mail commands of a topic into the table of email-sender
    Sender(SenderArgs),
    /// Commands as lines over HTTP, into Kafka and through a door that takes all of them at once
    Http(HttpArgs),
    /// Direct commands with Kafka up, down and frozen: how long a submit takes, and whether anything is missing; then
    /// an outage, `outbox` and `http`
    Commands(CommandsArgs),
    /// Runs of step workflows: backlogs, latency, and clients that wait
    Workflows(WorkflowsArgs),
    /// Commands through the outbox and redelivery, each against the bare statements
    Outbox(OutboxArgs),
    /// The same work by one replica and by many, each a process of its own, and what Postgres waits for meanwhile
    Replicas(ReplicasArgs),
    /// What an item costs by the size of its batch, and what a replica costs that does nothing
    Capacity(CapacityArgs),
    /// What telling a collector costs: the same work by a replica that does and by one that does not
    Telemetry(TelemetryArgs),
    /// A replica of `replicas`, `capacity` and `telemetry`
    #[command(hide = true)]
    Replica,
    /// The collector of `telemetry`
    #[command(hide = true)]
    Sink,
}

#[derive(Args)]
struct ReplicasArgs {
    /// How many replicas, one after the other
    #[arg(long, value_delimiter = ',', default_values_t = [1_usize, 2, 4, 8])]
    counts: Vec<usize>,
    /// Items of each fan-out
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(i64).range(10_000..=50_000_000))]
    items: i64,
    /// Runs of three steps
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    runs: u32,
}

#[derive(Args)]
struct CapacityArgs {
    /// Items of each fan-out
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(i64).range(10_000..=50_000_000))]
    items: i64,
    /// How long idle replicas are looked at
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    idle: std::time::Duration,
}

#[derive(Args)]
struct TelemetryArgs {
    /// Items of each fan-out
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(i64).range(10_000..=50_000_000))]
    items: i64,
    /// Runs of each backlog
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    runs: u32,
    /// Rounds of two replicas that tell and two that do not; the ratios are their medians
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

#[derive(Args)]
struct SenderArgs {
    /// Messages, two in a hundred of them a second time
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u32).range(10_000..=10_000_000))]
    messages: u32,
    /// Times it is measured; the figure is the median
    #[arg(long, default_value_t = 3)]
    times: usize,
}

#[derive(Args)]
struct HttpArgs {
    /// Commands of a round
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(10_000..=100_000_000))]
    commands: u32,
    /// Rounds; the figure is their median
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

#[derive(Args)]
struct CommandsArgs {
    /// Commands of each throughput loop
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(10_000..=50_000_000))]
    commands: u64,
    /// Pairs of orchestrator and producer alone; the ratio is their median
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Leave the weathers out that stop and freeze the broker
    #[arg(long)]
    fair_weather: bool,
    /// Shorter stretches, for a look
    #[arg(long)]
    brief: bool,
    /// The script that stops and freezes the broker of LOCKGATE_SERVICES_DIR
    #[arg(long, default_value = "ops/dev/services.sh")]
    services: std::path::PathBuf,
}

#[derive(Args)]
struct WorkflowsArgs {
    /// Runs of each backlog
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    runs: u32,
    /// How long each closed loop runs
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Only one part of it
    #[arg(long)]
    only: Option<Part>,
    /// Claims in large tables, instead of all else
    #[arg(long)]
    big: bool,
    /// Runs that sleep in the large tables
    #[arg(long, default_value_t = 1_000_000, requires = "big")]
    sleeping: u32,
    /// Runs that are over in the large tables
    #[arg(long, default_value_t = 10_000_000, requires = "big")]
    finished: u32,
    /// Measure instead what limits cost that do not bind, over so many pairs of backlogs each
    #[arg(long, value_name = "PAIRS")]
    limits: Option<usize>,
    /// Measure instead what retention takes, and a parent of a thousand children
    #[arg(long)]
    seldom: bool,
}

#[derive(Args)]
struct OutboxArgs {
    /// Commands of each side
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(i64).range(10_000..=5_000_000))]
    commands: i64,
    /// Pairs of engine and loop; the figures are their medians
    #[arg(long, default_value_t = 3)]
    pairs: usize,
}

#[derive(Args)]
struct FanoutArgs {
    /// Items of the dense case; the sparse case has as many, 30 in 100 of a larger table
    #[arg(long, default_value_t = 3_000_000, value_parser = clap::value_parser!(i64).range(10_000..=50_000_000))]
    items: i64,
    /// Pairs of engine and loop; the figures are their medians
    #[arg(long, default_value_t = 3)]
    pairs: usize,
    /// Only one case
    #[arg(long)]
    only: Option<Only>,
    /// Also run the engine over the whole table, for its memory
    #[arg(long)]
    long: bool,
    /// Leave latency and memory out
    #[arg(long)]
    brief: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Only {
    Dense,
    Sparse,
}

impl Execute for BenchArgs {
    const NAME: &'static str = "bench";

    async fn execute(self, context: &Context) -> Outcome {
        match self.command {
            BenchCommand::Fanout(args) => {
                let settings = args.settings(context)?;
                let report = fanout(&settings, &tell)
                    .await
                    .map_err(|error| failed("fanout", &error))?;
                context.output.done(&report, || report.text())
            }
            BenchCommand::Commands(args) => {
                let report = commands(&args.settings(context)?, &tell)
                    .await
                    .map_err(|error| failed("commands", &error))?;
                context.output.done(&report, || report.text())
            }
            BenchCommand::Outbox(args) => {
                let report = outbox(&args.settings(context)?, &tell)
                    .await
                    .map_err(|error| failed("outbox", &error))?;
                context.output.done(&report, || report.text())
            }
            BenchCommand::Replicas(args) => {
                let report = replicas(&args.settings(context)?, &tell)
                    .await
                    .map_err(|error| failed("replicas", &error))?;
                context.output.done(&report, || report.text())
            }
            BenchCommand::Capacity(args) => {
                let report = capacity(&args.settings(context)?, &tell)
                    .await
                    .map_err(|error| failed("capacity", &error))?;
                context.output.done(&report, || report.text())
            }
            BenchCommand::Telemetry(args) => {
                let report = telemetry(&args.settings(context)?, &tell)
                    .await
                    .map_err(|error| failed("telemetry", &error))?;
                context.output.done(&report, || report.text())
            }
            BenchCommand::Replica => {
                let ran = processes::replica(context.config().clone()).await;
                ran.map_err(|error| failed("replica", &error))?;
                Ok(Exit::Ok)
            }
            BenchCommand::Sink => {
                sink().await.map_err(|error| failed("sink", &error))?;
                Ok(Exit::Ok)
            }
            BenchCommand::Workflows(args) => {
                let report = workflows(&args.settings(context)?, &tell)
                    .await
                    .map_err(|error| failed("workflows", &error))?;
                context.output.done(&report, || report.text())
            }
            BenchCommand::Sender(args) => {
                let report = sender(&args.settings(context)?, &tell)
                    .await
                    .map_err(|error| failed("sender", &error))?;
                context.output.done(&report, || report.text())
            }
            BenchCommand::Http(args) => {
                let report = http(&args.settings(context)?, &tell)
                    .await
                    .map_err(|error| failed("http", &error))?;
                context.output.done(&report, || report.text())
            }
        }
    }
}

fn tell(line: &str) {
    eprintln!("bench: {line}");
}

fn failed(what: &str, error: &anyhow::Error) -> Failure {
    Failure::new(Exit::Failed, format!("bench {what}: {error:#}")).changed(Changed::Said)
}

fn brokers(context: &Context) -> Result<String, Failure> {
    let brokers = context.config().kafka.brokers.clone();
    brokers.ok_or_else(|| Failure::new(Exit::Usage, "no brokers are configured").hint("set KAFKA_BROKERS"))
}

impl ReplicasArgs {
    fn settings(self, context: &Context) -> Result<ReplicasSettings, Failure> {
        Ok(ReplicasSettings {
            database_url: context.config().database_settings()?.url,
            brokers: brokers(context)?,
            items: self.items,
            runs: self.runs as usize,
            counts: self.counts,
        })
    }
}

impl CapacityArgs {
    fn settings(self, context: &Context) -> Result<CapacitySettings, Failure> {
        Ok(CapacitySettings {
            database_url: context.config().database_settings()?.url,
            brokers: brokers(context)?,
            items: self.items,
            idle: self.idle,
        })
    }
}

impl TelemetryArgs {
    fn settings(self, context: &Context) -> Result<TelemetrySettings, Failure> {
        Ok(TelemetrySettings {
            database_url: context.config().database_settings()?.url,
            brokers: brokers(context)?,
            items: self.items,
            runs: self.runs as usize,
            rounds: self.rounds as usize,
        })
    }
}

impl SenderArgs {
    fn settings(self, context: &Context) -> Result<SenderSettings, Failure> {
        Ok(SenderSettings {
            database_url: context.config().database_settings()?.url,
            brokers: brokers(context)?,
            messages: self.messages,
            times: self.times,
        })
    }
}

impl HttpArgs {
    fn settings(self, context: &Context) -> Result<HttpSettings, Failure> {
        Ok(HttpSettings {
            database_url: context.config().database_settings()?.url,
            brokers: brokers(context)?,
            commands: self.commands as usize,
            rounds: self.rounds as usize,
        })
    }
}

impl WorkflowsArgs {
    fn settings(self, context: &Context) -> Result<WorkflowsSettings, Failure> {
        Ok(WorkflowsSettings {
            database_url: context.config().database_settings()?.url,
            brokers: brokers(context)?,
            runs: self.runs as usize,
            seconds: self.seconds,
            limits: self.limits,
            part: self.only,
            seldom: self.seldom,
            big: self.big.then_some(BigSettings {
                sleeping: i64::from(self.sleeping),
                finished: i64::from(self.finished),
            }),
        })
    }
}

impl OutboxArgs {
    fn settings(self, context: &Context) -> Result<OutboxSettings, Failure> {
        Ok(OutboxSettings {
            database_url: context.config().database_settings()?.url,
            brokers: brokers(context)?,
            commands: self.commands,
            pairs: self.pairs,
        })
    }
}

impl CommandsArgs {
    fn settings(self, context: &Context) -> Result<CommandsSettings, Failure> {
        // Only servers that were started for this may be stopped.
        let may_stop = !self.fair_weather && std::env::var_os("LOCKGATE_SERVICES_DIR").is_some();
        let (outbox, http) = if self.brief {
            (50_000, 100_000)
        } else {
            (300_000, 1_000_000)
        };
        let outbox = OutboxArgs {
            commands: outbox,
            pairs: self.pairs,
        };
        let http = HttpArgs {
            commands: http,
            rounds: 3,
        };
        Ok(CommandsSettings {
            database_url: context.config().database_settings()?.url,
            brokers: brokers(context)?,
            commands: self.commands,
            pairs: self.pairs,
            brief: self.brief,
            services: may_stop.then_some(self.services),
            outbox: outbox.settings(context)?,
            http: http.settings(context)?,
        })
    }
}

impl FanoutArgs {
    fn settings(&self, context: &Context) -> Result<FanoutSettings, Failure> {
        let only = self.only.map(|only| match only {
            Only::Dense => Density::Dense,
            Only::Sparse => Density::Sparse,
        });
        // Thirty in a hundred of the table are as many as the dense items; without the sparse case those are enough.
        let users = match only {
            Some(Density::Dense) if !self.long => self.items,
            _ => self.items * 10 / 3,
        };
        Ok(FanoutSettings {
            database_url: context.config().database_settings()?.url,
            brokers: brokers(context)?,
            items: self.items,
            users,
            pairs: self.pairs,
            only,
            long: self.long,
            brief: self.brief,
        })
    }
}

/// The command, for [`lockgate::EngineBuilder::command`].
#[must_use]
pub fn bench() -> Box<dyn lockgate::cli::ExtraCommand> {
    lockgate::cli::extra::<BenchArgs>()
}
