//! The command `bench`.

use clap::{Args, Subcommand, ValueEnum};
use lockgate::cli::{Changed, Context, Execute, Exit, Failure, Outcome};

use super::{Density, FanoutSettings, OutboxSettings, fanout, outbox};

/// Measures the engine against a loop written by hand, in a database and topics made for it
#[derive(Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Subcommand)]
enum BenchCommand {
    /// Many items of a table into a topic: engine, hand-written loop, and producer alone
    Fanout(FanoutArgs),
    /// Commands through the outbox and redelivery, each against the bare statements
    Outbox(OutboxArgs),
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
        let progress = |line: &str| eprintln!("bench: {line}");
        let failed = |what: &str, error: anyhow::Error| {
            Failure::new(Exit::Failed, format!("bench {what}: {error:#}")).changed(Changed::Said)
        };
        match self.command {
            BenchCommand::Fanout(args) => {
                let settings = args.settings(context)?;
                let measured = fanout(&settings, &progress).await;
                let report = measured.map_err(|error| failed("fanout", error))?;
                context.output.done(&report, || report.text())
            }
            BenchCommand::Outbox(args) => {
                let settings = OutboxSettings {
                    database_url: context.config().database_settings()?.url,
                    brokers: brokers(context)?,
                    commands: args.commands,
                    pairs: args.pairs,
                };
                let measured = outbox(&settings, &progress).await;
                let report = measured.map_err(|error| failed("outbox", error))?;
                context.output.done(&report, || report.text())
            }
        }
    }
}

fn brokers(context: &Context) -> Result<String, Failure> {
    let brokers = context.config().kafka.brokers.clone();
    brokers.ok_or_else(|| Failure::new(Exit::Usage, "no brokers are configured").hint("set KAFKA_BROKERS"))
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
