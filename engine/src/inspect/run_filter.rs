//! Which runs are meant: in lists, and for what is done to many at once.

use chrono::{DateTime, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::RUN_STATES;
use crate::lifecycle::{MOST_ATTRIBUTES, misfit_attributes};

/// Longest text of a filter, in characters.
const LONGEST: usize = 500;

/// Runs that have all of this.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunFilter {
    /// Of this workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500), extend("pattern" = "^[^\\u0000]+$"))]
    pub workflow: Option<String>,
    /// In this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = status_values()))]
    pub status: Option<String>,
    /// From this queue; a run without one is in that of its workflow's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500), extend("pattern" = "^[^\\u0000]+$"))]
    pub queue: Option<String>,
    /// With these attributes, and perhaps others.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "attributes_schema")]
    pub attributes: Map<String, Value>,
    /// Started by the code of this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Uuid>,
    /// Fired by this schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500), extend("pattern" = "^[^\\u0000]+$"))]
    pub schedule: Option<String>,
    /// On behalf of this tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500), extend("pattern" = "^[^\\u0000]+$"))]
    pub tenant: Option<String>,
    /// Started at that instant or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Started before that instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
}

impl RunFilter {
    /// Whether every run fits.
    #[must_use]
    pub fn fits_all(&self) -> bool {
        *self == Self::default()
    }

    /// Narrows it by one thing written as `KEY=VALUE`, such as `workflow=billing` or `attribute.customer=42`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn narrow(&mut self, pair: &str) -> Result<(), String> {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| format!("{pair} is not KEY=VALUE, such as workflow=billing"))?;
        let text = || Some(value.to_owned());
        match key {
            "workflow" => self.workflow = text(),
            "status" => self.status = text(),
            "queue" => self.queue = text(),
            "schedule" => self.schedule = text(),
            "tenant" => self.tenant = text(),
            "parent" => self.parent = Some(value.parse().map_err(|_| format!("{value} is not a run's id"))?),
            "since" => self.since = Some(instant(value)?),
            "until" => self.until = Some(instant(value)?),
            _ => {
                let Some(name) = key.strip_prefix("attribute.") else {
                    return Err(format!(
                        "there is no {key}: it is workflow, status, queue, attribute.NAME, parent, schedule, tenant, since or until"
                    ));
                };
                self.attributes.insert(name.to_owned(), scalar(value));
            }
        }
        match self.misfit() {
            Some((field, wrong)) => Err(format!("{field} {wrong}")),
            None => Ok(()),
        }
    }

    /// What cannot be: the field, and what is wrong with it.
    #[must_use]
    pub fn misfit(&self) -> Option<(&'static str, String)> {
        if self
            .status
            .as_deref()
            .is_some_and(|status| !RUN_STATES.contains(&status))
        {
            return Some(("status", "is not a state of a run".to_owned()));
        }
        let texts = [
            ("workflow", &self.workflow),
            ("queue", &self.queue),
            ("schedule", &self.schedule),
            ("tenant", &self.tenant),
        ];
        for (field, text) in texts {
            let Some(text) = text else { continue };
            if text.is_empty() || text.chars().count() > LONGEST {
                return Some((field, "is empty or longer than 500 characters".to_owned()));
            }
            if text.contains('\0') {
                return Some((field, "contains a zero character".to_owned()));
            }
        }
        let wrong = misfit_attributes(&self.attributes);
        wrong.map(|wrong| ("attributes", format!("do not fit: {wrong}")))
    }
}

/// The states of a run, or none said.
fn status_values() -> Vec<Value> {
    let states = RUN_STATES.iter().map(|state| Value::from(*state));
    states.chain([Value::Null]).collect()
}

/// What attributes can be.
pub(crate) fn attributes_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": MOST_ATTRIBUTES,
        "propertyNames": { "minLength": 1, "maxLength": 100, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$" },
        "additionalProperties": {
            "type": ["string", "number", "boolean"],
            "maxLength": 250,
            "pattern": "^[^\\u0000]*$",
        },
    })
}

/// The value of an attribute as people write it: what reads as a number, a boolean or a string of JSON is that, all else a
/// string.
#[must_use]
pub fn scalar(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_) | Value::String(_))) => value,
        _ => text.into(),
    }
}

fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.to_utc())
        .map_err(|_| format!("{text} is not an instant such as 2026-01-31T06:00:00Z"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pairs_narrow_a_filter() -> Result<(), String> {
        let mut filter = RunFilter::default();
        assert!(filter.fits_all());
        for pair in [
            "workflow=billing",
            "status=failed",
            "attribute.customer=42",
            "attribute.order=\"42\"",
            "attribute.city=Bonn=Rhein",
            "since=2026-01-31T06:00:00+01:00",
        ] {
            filter.narrow(pair)?;
        }
        let written = serde_json::to_value(&filter).map_err(|error| error.to_string())?;
        let expected = json!({"workflow": "billing", "status": "failed", "since": "2026-01-31T05:00:00Z",
            "attributes": {"customer": 42, "order": "42", "city": "Bonn=Rhein"}});
        assert_eq!(written, expected);
        assert!(!filter.fits_all());
        Ok(())
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for pair in [
            "workflow",
            "colour=red",
            "status=gone",
            "tenant=",
            "parent=7",
            "since=today",
            "attribute.=1",
            "attribute.a=\"\\u0000\"",
        ] {
            assert!(RunFilter::default().narrow(pair).is_err(), "{pair}");
        }
    }
}
