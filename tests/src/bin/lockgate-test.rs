//! The command line over a host without an engine: tests decide by variables what brokers and replica do.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use lockgate::cli::{Context, Execute, Exit, ExtraCommand, Host, Outcome, Roles, extra};
use lockgate::config::Config;
use lockgate::delivery::{Message, Publisher, Rejected, Ticket, TopicError, TopicInfo};
use lockgate::health::Health;
use tokio_util::sync::CancellationToken;

struct TestHost;

impl Host for TestHost {
    fn workflows(&self) -> Vec<String> {
        vec!["daily-mail".to_owned(), "weekly-mail".to_owned()]
    }

    fn run(
        self: Arc<Self>,
        _config: Config,
        roles: Roles,
        _health: Health,
        stop: CancellationToken,
    ) -> BoxFuture<'static, anyhow::Result<()>> {
        Box::pin(async move {
            eprintln!("running as {roles}");
            stop.cancelled().await;
            match std::env::var("TEST_DRAIN").as_deref() {
                Ok("never") => std::future::pending().await,
                Ok("fails") => anyhow::bail!("a batch could not be handed back"),
                _ => eprintln!("drained"),
            }
            Ok(())
        })
    }

    fn publisher(&self, config: &Config) -> anyhow::Result<Arc<dyn Publisher>> {
        anyhow::ensure!(
            config.kafka.brokers.is_some(),
            "no kafka brokers given: set KAFKA_BROKERS"
        );
        Ok(Arc::new(TestPublisher))
    }

    fn commands(&self) -> Vec<Box<dyn ExtraCommand>> {
        vec![extra::<Greet>()]
    }
}

/// Greets somebody
#[derive(clap::Args)]
struct Greet {
    /// Whom
    name: String,
}

impl Execute for Greet {
    const NAME: &'static str = "greet";

    async fn execute(self, context: &Context) -> Outcome {
        let greeting = serde_json::json!({ "greeted": self.name });
        context.output.done(&greeting, || format!("hello {}\n", self.name))?;
        Ok(if self.name == "nobody" {
            Exit::NotFound
        } else {
            Exit::Ok
        })
    }
}

/// Answers as the variable TEST_TOPIC says.
struct TestPublisher;

impl Publisher for TestPublisher {
    fn publish(&self, _message: &Message, _ticket: Ticket) -> Result<(), Rejected> {
        Err(Rejected::Unavailable)
    }

    fn capacity(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn check_topic<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<TopicInfo, TopicError>> {
        let topic = topic.to_owned();
        let info = |max_message_bytes| {
            Ok(TopicInfo {
                partitions: 3,
                max_message_bytes,
            })
        };
        let answer = match std::env::var("TEST_TOPIC").as_deref() {
            Ok("missing") => Err(TopicError::Missing { topic }),
            Ok("denied") => Err(TopicError::NotAuthorised {
                topic,
                detail: "no acl".to_owned(),
            }),
            Ok("unreachable") => Err(TopicError::Unreachable {
                detail: "all brokers down".to_owned(),
            }),
            Ok("small") => info(Some(1_000)),
            _ => info(Some(1_048_588)),
        };
        Box::pin(std::future::ready(answer))
    }

    fn shutdown(&self, _within: Duration) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

fn main() -> ExitCode {
    lockgate::cli::main(TestHost)
}
