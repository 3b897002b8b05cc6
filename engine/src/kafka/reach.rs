//! Whether the brokers answer, asked over and over by one client.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::KafkaError;

use super::config::{KafkaConfig, KafkaConfigError};
use super::reports::LogOnly;

/// A client that asks whether the brokers answer and does nothing else.
pub struct KafkaReach {
    config: KafkaConfig,
    client: Mutex<Arc<AdminClient<LogOnly>>>,
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
        Ok(Self {
            config: config.clone(),
            client: Mutex::new(client(config)?),
            topic: topic.to_owned(),
        })
    }

    /// Whether they answer in time, else why not. What they say of the topic is nothing to us. After a look in vain the next
    /// one is a new client's: the library may have forgotten all brokers.
    pub async fn reach(&self, within: Duration) -> Result<(), String> {
        let (asking, topic) = (self.lock().clone(), self.topic.clone());
        let asked = tokio::task::spawn_blocking(move || asking.inner().fetch_metadata(Some(&topic), within)).await;
        if !matches!(asked, Ok(Ok(_)))
            && let Ok(anew) = client(&self.config)
        {
            let lost = std::mem::replace(&mut *self.lock(), anew);
            // Its threads are waited for.
            tokio::task::spawn_blocking(move || drop(lost));
        }
        match asked {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the look was cut off".to_owned()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Arc<AdminClient<LogOnly>>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn client(config: &KafkaConfig) -> Result<Arc<AdminClient<LogOnly>>, KafkaError> {
    AdminClient::from_config_and_context(&config.connection(), LogOnly).map(Arc::new)
}
