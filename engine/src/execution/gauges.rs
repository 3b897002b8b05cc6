//! What is told of an executor whenever somebody looks.

use std::sync::{Arc, Weak};

use super::executor::Shared;
use crate::telemetry::catalogue::{MetricDef, RUN_SLOTS, RUNS_IN_FLIGHT, WINDOW_SIZE, WINDOW_USED, WORKER_SLOTS};
use crate::telemetry::closed::{Closed, LeaseKind, SlotState};
use crate::telemetry::{Watching, meters};

type Read = fn(&Shared) -> usize;

/// Tells it as long as the answer lives.
pub(super) fn watch(shared: &Arc<Shared>) -> Vec<Watching> {
    meters().holds_leases(&[
        LeaseKind::Run,
        LeaseKind::Batch,
        LeaseKind::Lane,
        LeaseKind::Undelivered,
    ]);
    meters().has_code_of(&shared.workflows());
    let gauges: [(&'static MetricDef, &[&str], Read); 6] = [
        (&WINDOW_USED, &[], |shared| shared.window.used()),
        (&WINDOW_SIZE, &[], |shared| shared.window.size()),
        (&WORKER_SLOTS, &[SlotState::Busy.text()], |shared| {
            shared.book.batch_count()
        }),
        (&WORKER_SLOTS, &[SlotState::Idle.text()], |shared| {
            shared.settings.batches.saturating_sub(shared.book.batch_count())
        }),
        (&RUNS_IN_FLIGHT, &[], |shared| shared.book.run_count()),
        (&RUN_SLOTS, &[], |shared| shared.settings.runs),
    ];
    let watch = |(def, values, read): (&'static MetricDef, &[&str], Read)| {
        let shared: Weak<Shared> = Arc::downgrade(shared);
        meters().watch(def, values, move || shared.upgrade().map(|shared| read(&shared) as f64))
    };
    gauges.into_iter().map(watch).collect()
}
