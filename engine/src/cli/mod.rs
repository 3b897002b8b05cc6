//! The command line, the same for every binary: `lockgate::cli::main(host)`.
//!
//! One file per command. A command of this crate is a struct that derives [`clap::Args`] (or an enum that derives
//! [`clap::Subcommand`]) with `async fn execute(self, context: &Context) -> Outcome`, a variant of `Command` and an
//! arm of `dispatch`; `replicas.rs` is the pattern. A command of another crate implements [`Execute`] and is given
//! by [`Host::commands`].

mod batches;
mod completions;
mod config_show;
mod connect;
mod context;
mod doctor;
mod doctor_fleet;
mod doctor_kafka;
mod doctor_pooler;
mod doctor_postgres;
mod doctor_run;
mod exit;
mod host;
mod migrate;
mod outbox;
mod output;
mod queues;
mod replicas;
mod run;
mod runs;
mod runs_again;
mod runs_bulk;
mod runs_item;
mod runs_list;
mod runs_show;
mod runs_steps;
pub mod schedules;
mod start;
mod tokens;
mod undelivered;
mod undelivered_export;
mod verify;
mod wait;

use std::any::Any;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

pub use context::Context;
pub use exit::{Changed, Exit, Failure, Outcome};
pub use host::{Execute, ExtraCommand, Host, Roles, extra};
pub use output::{Format, Output};
pub use run::GRACE;

use crate::config::{Config, LogFormat, Sources};
use crate::telemetry::{lines, say};

/// Durable runs on Postgres, leased batches into Kafka, and the proof of delivery.
///
/// Most commands need DATABASE_URL; those that send or read messages need KAFKA_BROKERS too.
#[derive(Parser)]
#[command(name = "lockgate", version, after_help = exit::EXIT_CODES, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args)]
struct Global {
    /// Configuration file; without it ./lockgate.toml when there is one
    #[arg(
        long,
        global = true,
        env = "LOCKGATE_CONFIG",
        value_name = "FILE",
        help_heading = "Global options"
    )]
    config: Option<PathBuf>,
    /// Where Postgres is, instead of $DATABASE_URL; others on this machine can see it
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    database_url: Option<String>,
    /// Where the brokers are, instead of $KAFKA_BROKERS
    #[arg(long, global = true, value_name = "HOST:PORT,…", help_heading = "Global options")]
    kafka_brokers: Option<String>,
    /// Sets one configuration key, such as lease.duration=30s
    #[arg(
        long = "set",
        global = true,
        value_name = "KEY=VALUE",
        help_heading = "Global options"
    )]
    set: Vec<String>,
    /// How data is printed on stdout
    #[arg(
        long,
        short,
        global = true,
        value_enum,
        default_value = "table",
        help_heading = "Global options"
    )]
    output: Format,
    /// In whose name; without it the name of the database role is recorded
    #[arg(
        long,
        global = true,
        env = "LOCKGATE_ACTOR",
        value_name = "NAME",
        help_heading = "Global options"
    )]
    actor: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Run a replica until it is told to stop
    Run(run::Args),
    /// Change or look at the schema
    #[command(subcommand)]
    Migrate(migrate::Command),
    /// Start a run of a workflow
    Start(start::Args),
    /// Look at runs and act on them
    #[command(subcommand)]
    Runs(runs::Command),
    /// Look at batches
    #[command(subcommand)]
    Batches(batches::Command),
    /// Look at undelivered messages, send them again, give them up
    #[command(subcommand)]
    Undelivered(undelivered::Command),
    /// Look at commands that were committed and are not sent yet, move or discard those that are stuck
    #[command(subcommand)]
    Outbox(outbox::Command),
    /// Read a run's topics back and compare them with the tables; exits with 6 when something does not hold
    Verify(verify::Args),
    /// Look at replicas
    #[command(subcommand)]
    Replicas(replicas::Command),
    /// Look at queues and set their limits
    #[command(subcommand)]
    Queues(queues::Command),
    /// Look at schedules and change them
    Schedules(schedules::SchedulesArgs),
    /// Make, look at and revoke tokens of the HTTP API
    #[command(subcommand)]
    Tokens(tokens::Command),
    /// Check Postgres, Kafka and the configuration, each with a fix
    Doctor(doctor::Args),
    /// Look at the configuration
    #[command(subcommand)]
    Config(config_show::Command),
    /// Print a completion script
    Completions(completions::Args),
}

/// The whole program of a binary: parses its arguments, does what they say, answers the exit code.
pub fn main<H: Host>(host: H) -> ExitCode {
    #[cfg(feature = "failpoints")]
    crate::crash::arm();
    let host: Arc<dyn Host> = Arc::new(host);
    let extras = host.commands();
    let mut command = Cli::command();
    for extra in &extras {
        command = command.subcommand(extra.command());
    }
    let matches = match command.clone().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version are answers; nothing can be done when they cannot be printed.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Ok }.into();
        }
    };
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("threads cannot be started: {error}")))
        .and_then(|runtime| {
            let mut telemetry = None;
            let outcome = runtime.block_on(dispatch(host, &extras, command, &matches, &mut telemetry));
            // Outside the runtime, since it waits for what is left to be exported, for a bounded time.
            drop(telemetry);
            // A client library's blocking thread must not keep a finished command alive.
            runtime.shutdown_background();
            outcome
        });
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            say(&failure.to_string());
            failure.exit.into()
        }
    }
}

async fn dispatch(
    host: Arc<dyn Host>,
    extras: &[Box<dyn ExtraCommand>],
    command: clap::Command,
    matches: &ArgMatches,
    telemetry: &mut Option<Box<dyn Any + Send>>,
) -> Outcome {
    let usage = |error: clap::Error| Failure::new(Exit::Usage, error.to_string().trim_end().to_owned());
    let global = Global::from_arg_matches(matches).map_err(usage)?;
    let chosen = matches.subcommand().and_then(|(name, matches)| {
        let extra = extras.iter().find(|extra| extra.name() == name)?;
        Some((extra, matches))
    });
    if let Some((extra, matches)) = chosen {
        let context = context(host, global)?;
        *telemetry = Some(context.host.start_telemetry(context.config(), "warn"));
        return extra.execute(&context, matches).await;
    }
    let parsed = Cli::from_arg_matches(matches).map_err(usage)?.command;
    if let Command::Completions(args) = parsed {
        return args.execute(command);
    }
    if let Command::Config(command) = &parsed
        && let Some(text) = command.prints()
    {
        output::write(&text)?;
        return Ok(Exit::Ok);
    }
    let context = context(host, global)?;
    match &parsed {
        Command::Run(args) => {
            args.tell_roles(&context);
            *telemetry = Some(context.host.start_telemetry(context.config(), "info"));
        }
        // Over before anything could be exported.
        _ => lines(context.config().telemetry.log_format, "warn"),
    }
    match parsed {
        Command::Run(args) => args.execute(&context).await,
        Command::Migrate(command) => command.execute(&context).await,
        Command::Start(args) => args.execute(&context).await,
        Command::Runs(command) => command.execute(&context).await,
        Command::Batches(command) => command.execute(&context).await,
        Command::Undelivered(command) => command.execute(&context).await,
        Command::Outbox(command) => command.execute(&context).await,
        Command::Verify(args) => args.execute(&context).await,
        Command::Replicas(command) => command.execute(&context).await,
        Command::Queues(command) => command.execute(&context).await,
        Command::Schedules(args) => args.run(&context).await,
        Command::Tokens(command) => command.execute(&context).await,
        Command::Doctor(args) => args.execute(&context).await,
        Command::Config(command) => command.execute(&context),
        Command::Completions(_) => Ok(Exit::Ok),
    }
}

fn context(host: Arc<dyn Host>, global: Global) -> Result<Context, Failure> {
    let mut sources = Sources {
        file: global.config,
        ..Sources::of_process()
    };
    let mut flag = |flag: &str, key: &str, value: String| sources.flags.push((flag.into(), key.into(), value));
    if let Some(url) = global.database_url {
        flag("--database-url", "database.url", url);
    }
    if let Some(brokers) = global.kafka_brokers {
        flag("--kafka-brokers", "kafka.brokers", brokers);
    }
    for pair in global.set {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Failure::new(
                Exit::Usage,
                format!("--set {pair}: expected KEY=VALUE, such as lease.duration=30s"),
            ));
        };
        flag("--set", key.trim(), value.trim().to_owned());
    }
    Ok(Context {
        host,
        loaded: Config::load(&sources)?,
        output: Output { format: global.output },
        actor: global.actor.filter(|actor| !actor.is_empty()),
    })
}

/// Plain lines on stderr, filtered by `RUST_LOG`. A second call changes nothing.
pub fn log_to_stderr(default_level: &str) {
    lines(LogFormat::Human, default_level);
}
