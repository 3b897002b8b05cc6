//! Values of labels, with an end: what people name is taken up to a bound, and everything after that is `_other`.

use std::collections::{HashMap, HashSet};
use std::sync::{PoisonError, RwLock};

use opentelemetry::{KeyValue, StringValue};

use super::catalogue::{Attribute, MetricDef, Values};

/// What stands for all values beyond the bound.
pub(super) const OTHER: &str = "_other";

/// The values that were seen of each attribute.
#[derive(Debug, Default)]
pub(super) struct Labels {
    seen: RwLock<HashMap<&'static str, HashSet<Box<str>>>>,
}

impl Labels {
    /// These values with those replaced that are beyond their bound.
    pub(super) fn bounded<'a>(&self, def: &MetricDef, values: &[&'a str]) -> Vec<&'a str> {
        debug_assert_eq!(def.attributes.len(), values.len(), "{}", def.name);
        let pairs = def.attributes.iter().zip(values);
        pairs.map(|(attribute, value)| self.bound(attribute, value)).collect()
    }

    fn bound<'a>(&self, attribute: &Attribute, value: &'a str) -> &'a str {
        match attribute.values {
            Values::Closed(all) if value.is_empty() || all.contains(&value) => value,
            Values::Closed(_) => {
                debug_assert!(false, "{} has no value {value}", attribute.name);
                OTHER
            }
            Values::Bounded(most) if !value.is_empty() => self.intern(attribute.name, value, most),
            Values::Bounded(_) | Values::Number | Values::Text => value,
        }
    }

    fn intern<'a>(&self, name: &'static str, value: &'a str, most: usize) -> &'a str {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        if seen.get(name).is_some_and(|values| values.contains(value)) {
            return value;
        }
        drop(seen);
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        let values = seen.entry(name).or_default();
        if values.contains(value) || (values.len() < most && values.insert(value.into())) {
            value
        } else {
            OTHER
        }
    }

    /// They as attributes of a point, without those that are empty.
    pub(super) fn attributes(&self, def: &MetricDef, values: &[&str]) -> Vec<KeyValue> {
        let pairs = def.attributes.iter().zip(values).filter(|(_, value)| !value.is_empty());
        pairs.map(|(attribute, value)| key_value(attribute, value)).collect()
    }
}

fn key_value(attribute: &Attribute, value: &str) -> KeyValue {
    match attribute.values {
        Values::Number => KeyValue::new(attribute.name, value.parse::<i64>().unwrap_or_default()),
        Values::Closed(all) => match all.iter().find(|known| **known == value) {
            Some(known) => KeyValue::new(attribute.name, *known),
            None => KeyValue::new(attribute.name, OTHER),
        },
        Values::Bounded(_) | Values::Text => KeyValue::new(attribute.name, StringValue::from(value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::catalogue::{CONSUMER_GROUP, INBOX_MESSAGES};

    #[test]
    fn names_beyond_the_bound_are_other_and_known_ones_stay() {
        let labels = Labels::default();
        let Values::Bounded(most) = CONSUMER_GROUP.values else {
            unreachable!("groups are bounded")
        };
        let groups: Vec<String> = (0..most + 3).map(|n| format!("group {n}")).collect();
        for group in &groups {
            labels.bounded(&INBOX_MESSAGES, &[group, "new"]);
        }
        assert_eq!(
            labels.bounded(&INBOX_MESSAGES, &[&groups[0], "new"]),
            [groups[0].as_str(), "new"]
        );
        assert_eq!(labels.bounded(&INBOX_MESSAGES, &[&groups[most], "new"]), [OTHER, "new"]);
        assert_eq!(labels.bounded(&INBOX_MESSAGES, &["", "new"]), ["", "new"]);
        assert_eq!(labels.attributes(&INBOX_MESSAGES, &["", "new"]).len(), 1);
    }
}
