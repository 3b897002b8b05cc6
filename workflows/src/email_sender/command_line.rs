//! The command line of `email-sender`.

use std::process::ExitCode;

use clap::Parser;
use lockgate::Engine;
use lockgate::cli::Host;
use lockgate::config::{Config, Sources};
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
    let config = Config::load(&sources)?.config;
    config.validate()?;
    let _telemetry = Engine::builder().start_telemetry(&config, "info");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Some(Verb::Requeue(verb)) = &args.verb {
        print!("{}", runtime.block_on(requeue(verb, &config))?);
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
            tracing::info!("draining");
            told.cancel();
        });
        run(args, &config, stop).await
    })
}
