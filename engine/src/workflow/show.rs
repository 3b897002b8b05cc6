//! Values that a run shows while it is under way.

use serde::Serialize;
use serde_json::Value;

use super::context::{Context, refuse};
use super::step::StepFuture;

/// Most bytes of a value that is shown, as JSON: whoever looks at a run is given all of them.
pub(crate) const LARGEST_SHOWN: usize = 16 * 1024;

impl Context {
    /// Shows a value under a name to whoever looks at the run, such as how far it is or what it waits for, and records it as a
    /// step: once at this place, whoever dies. The newest of a name counts. It is read by `RunHandle::shown`, `runs show`,
    /// over HTTP and by `select * from lockgate.shown(run)`, while the run is under way and as long as it is kept, by
    /// everybody who may look at runs, so nothing personal goes into it. A value has at most 16 KiB as JSON.
    pub fn show(&self, name: &str, value: &(impl Serialize + ?Sized)) -> StepFuture<()> {
        let place = self.place(name);
        if let Some(wrong) = place.misnamed() {
            return refuse(wrong);
        }
        let json = match serde_json::to_value(value) {
            Ok(json) if holds_zero(&json) => return refuse(format!("what is shown as {name:?} has a zero character")),
            Ok(json) => json,
            Err(error) => return refuse(format!("what is shown as {name:?} is not JSON: {error}")),
        };
        let done = self.host().show(place, json.to_string().into_bytes());
        self.told(done, |_| Ok(()))
    }
}

/// Whether a text in it has a character that the tables' JSON cannot have.
pub(crate) fn holds_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(holds_zero),
        Value::Object(fields) => fields
            .iter()
            .any(|(name, value)| name.contains('\0') || holds_zero(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
