//! The values as they may be printed.

use serde::Serialize;

use super::keys::KEYS;
use super::secret::is_secret_property;
use super::{Config, Loaded, Origin};

/// One value as it may be printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownValue {
    /// `section.name`.
    pub key: String,
    /// Its value; secrets are hidden, empty means not set.
    pub value: String,
    /// Which layer it came from.
    pub origin: String,
    /// What it is for.
    pub about: String,
}

impl Config {
    /// All values, secrets hidden, with the origin left at default.
    #[must_use]
    pub fn values(&self) -> Vec<ShownValue> {
        let shown = |key: String, value: String, about: &str| ShownValue {
            key,
            value,
            origin: Origin::Default.to_string(),
            about: about.to_owned(),
        };
        let fixed = KEYS
            .iter()
            .map(|key| shown(key.path.to_owned(), (key.show)(self), key.about));
        let topics = self
            .topics
            .iter()
            .map(|(kind, topic)| shown(format!("topics.{kind}"), topic.clone(), "topic of this command type"));
        let properties = self.kafka.properties.iter().map(|(name, value)| {
            let value = if is_secret_property(name) { "(hidden)" } else { value };
            shown(
                format!("kafka.properties.{name}"),
                value.to_owned(),
                "handed to librdkafka",
            )
        });
        fixed.chain(topics).chain(properties).collect()
    }
}

impl Loaded {
    /// All values, secrets hidden, each with its origin.
    #[must_use]
    pub fn values(&self) -> Vec<ShownValue> {
        let mut values = self.config.values();
        for value in &mut values {
            if let Some(origin) = self.origins.get(&value.key) {
                value.origin = origin.to_string();
            }
        }
        values
    }
}
