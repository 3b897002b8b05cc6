//! The seam between the command line and whoever runs it: which workflows there are, how a replica runs, what other
//! commands the binary has.

use std::any::Any;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use clap::{ArgMatches, Args};
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::{Context, Outcome};
use crate::config::Config;
use crate::delivery::{Publisher, TopicReader};
use crate::health::Health;
use crate::kafka::KafkaTopicReader;
use crate::workflow::Registry;

/// What a binary brings to the command line.
pub trait Host: Send + Sync + 'static {
    /// Workflows whose code it has; empty: it knows none and takes any name.
    fn workflows(&self) -> Vec<String>;

    /// The workflows themselves, where they are at hand: parameters are checked against them.
    fn registry(&self) -> Option<&Registry> {
        None
    }

    /// Runs a replica until told to stop, then drains it within `config.drain.deadline`; says all the while how it is.
    fn run(
        self: Arc<Self>,
        config: Config,
        roles: Roles,
        health: Health,
        stop: CancellationToken,
    ) -> BoxFuture<'static, anyhow::Result<()>>;

    /// A publisher of its own, to ask the brokers about topics; asked for where brokers are configured, or a command cannot do
    /// without. Whoever asks for it shuts it down.
    ///
    /// # Errors
    /// The configuration of the brokers cannot be used.
    fn publisher(&self, config: &Config) -> anyhow::Result<Arc<dyn Publisher>>;

    /// Reads topics back, to verify runs.
    ///
    /// # Errors
    /// The configuration of the brokers cannot be used.
    fn topic_reader(&self, config: &Config) -> anyhow::Result<Arc<dyn TopicReader>> {
        Ok(Arc::new(KafkaTopicReader::new(crate::brokers::kafka_config(config)?)))
    }

    /// Further commands, such as a demo.
    fn commands(&self) -> Vec<Box<dyn ExtraCommand>> {
        Vec::new()
    }

    /// Sets logging and tracing up; what it gives is kept until the command is over. Nothing goes to stdout.
    fn start_telemetry(&self, _config: &Config, default_level: &str) -> Box<dyn Any + Send> {
        super::log_to_stderr(default_level);
        Box::new(())
    }
}

/// What a replica does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// May lead: fires schedules, sweeps, prunes.
    pub leader: bool,
    /// Plans, executes and redelivers.
    pub worker: bool,
    /// Serves the HTTP API.
    pub api: bool,
}

impl Roles {
    /// What a replica does when nothing else is said: all that needs no address.
    pub const USUAL: Self = Self {
        leader: true,
        worker: true,
        api: false,
    };

    /// Their names, as a replica's row shows them.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        let named = [(self.leader, "leader"), (self.worker, "worker"), (self.api, "api")];
        let has = named.into_iter().filter(|(has, _)| *has);
        has.map(|(_, name)| name.to_owned()).collect()
    }
}

impl FromStr for Roles {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut roles = Self {
            leader: false,
            worker: false,
            api: false,
        };
        for name in text.split(',').map(str::trim) {
            match name {
                "leader" => roles.leader = true,
                "worker" => roles.worker = true,
                "api" => roles.api = true,
                other => {
                    return Err(format!(
                        "unknown role {other:?}, expected leader, worker, api or several with commas"
                    ));
                }
            }
        }
        Ok(roles)
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(","))
    }
}

/// A command that lives outside this module. Made by [`extra`] from a struct that derives [`clap::Args`].
pub trait ExtraCommand: Send + Sync {
    /// Its name on the command line.
    fn name(&self) -> &'static str;
    /// How it is parsed.
    fn command(&self) -> clap::Command;
    /// Does it.
    fn execute<'a>(&'a self, context: &'a Context, matches: &'a ArgMatches) -> BoxFuture<'a, Outcome>;
}

/// A command's arguments and what it does. The doc comment of the struct is its help.
pub trait Execute: Args + Send + Sync + 'static {
    /// Its name on the command line.
    const NAME: &'static str;
    /// Does it.
    fn execute(self, context: &Context) -> impl Future<Output = Outcome> + Send;
}

/// Makes a command of its arguments: `extra::<DemoArgs>()`.
#[must_use]
pub fn extra<C: Execute>() -> Box<dyn ExtraCommand> {
    Box::new(Extra(std::marker::PhantomData::<fn() -> C>))
}

struct Extra<C>(std::marker::PhantomData<fn() -> C>);

impl<C: Execute> ExtraCommand for Extra<C> {
    fn name(&self) -> &'static str {
        C::NAME
    }

    fn command(&self) -> clap::Command {
        C::augment_args(clap::Command::new(C::NAME))
    }

    fn execute<'a>(&'a self, context: &'a Context, matches: &'a ArgMatches) -> BoxFuture<'a, Outcome> {
        let args = C::from_arg_matches(matches);
        Box::pin(async move {
            match args {
                Ok(args) => args.execute(context).await,
                Err(error) => Err(super::Failure::new(super::Exit::Usage, error.to_string())),
            }
        })
    }
}
