//! Whether the brokers answer, asked over and over by one client.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::config::FromClientConfigAndContext;

use super::config::{KafkaConfig, KafkaConfigError};
use super::reports::LogOnly;

/// A client that asks whether the brokers answer and does nothing else.
pub struct KafkaReach {
    client: Arc<AdminClient<LogOnly>>,
    /// Asked about, so that the answer is short however many topics there are.
    topic: String,
}

impl KafkaReach {
    /// Makes the client; brokers need not be reachable yet.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn new(config: &KafkaConfig, topic: &str) -> Result<Self, KafkaConfigError> {
        config.validate()?;
        let client = AdminClient::from_config_and_context(&config.connection(), LogOnly)?;
        Ok(Self {
            client: Arc::new(client),
            topic: topic.to_owned(),
        })
    }

    /// Whether they answer in time, else why not. What they say of the topic is nothing to us.
    pub async fn reach(&self, within: Duration) -> Result<(), String> {
        let (client, topic) = (self.client.clone(), self.topic.clone());
        let asked = tokio::task::spawn_blocking(move || client.inner().fetch_metadata(Some(&topic), within)).await;
        match asked {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the look was cut off".to_owned()),
        }
    }
}
