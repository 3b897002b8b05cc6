//! The command line of `email-sender`.

use std::process::ExitCode;

use clap::Parser;
use lockgate::config::{Config, Sources};
use lockgate::telemetry;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Args, Verb, requeue, run};

/// The command line: reads it and the configuration, consumes until SIGTERM or SIGINT, and drains.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    #[cfg(feature = "failpoints")]
    lockgate::crash::arm();
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("email-sender: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: Args) -> anyhow::Result<()> {
    let sources = Sources {
        file: args.config.clone(),
        ..Sources::of_process()
    };
    let loaded = Config::load(&sources)?;
    let config = &loaded.config;
    config.validate()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let entered = runtime.enter();
    let telemetry = telemetry::start(config, "email-sender", "info");
    drop(entered);
    loaded.warn_of_open_files();
    let ended = work(args, config, &runtime);
    // Outside the runtime, since it waits for what is left to be exported, for a bounded time.
    drop(telemetry);
    ended
}

fn work(args: Args, config: &Config, runtime: &Runtime) -> anyhow::Result<()> {
    if let Some(Verb::Requeue(verb)) = &args.verb {
        print!("{}", runtime.block_on(requeue(verb, config))?);
        return Ok(());
    }
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let told = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!(name: "draining", "told to stop");
            told.cancel();
        });
        run(args, config, stop).await
    })
}
