//! Metrics of the whole fleet, which the leader alone reports: read through the views that people query.

use super::metrics::metrics;
use super::*;

const NONE: &[f64] = &[];

metrics! { FLEET_METRICS:
    QUEUE_READY = Gauge "lockgate.queue.ready" ["{run}"] (QUEUE) NONE Leader Always => "runs that could begin now";
    QUEUE_RUNNING = Gauge "lockgate.queue.running" ["{run}"] (QUEUE) NONE Leader Always => "runs that are held";
    QUEUE_LIMITED = Gauge "lockgate.queue.limited" ["{run}"] (QUEUE) NONE Leader Always => "most runs that the queue lets run at once; not there: no limit";
    QUEUE_OLDEST_READY = Gauge "lockgate.queue.oldest_ready.age" ["s"] (QUEUE) NONE Leader Always => "for how long the first of them could have begun";
    UNDELIVERED_MESSAGES = Gauge "lockgate.undelivered.messages" ["{message}"] (UNDELIVERED_STATUS) NONE Leader Always => "undelivered messages";
    UNDELIVERED_OLDEST = Gauge "lockgate.undelivered.oldest.age" ["s"] (UNDELIVERED_STATUS) NONE Leader Always => "for how long the oldest has waited; of the due ones since it may go, or, once it was tried in vain, since it was stored";
    OUTBOX_OLDEST = Gauge "lockgate.outbox.oldest.age" ["s"] () NONE Leader Always => "how old the oldest command in the outbox is";
    FAN_OUT_REMAINING = Gauge "lockgate.fan_out.remaining" ["{item}"] (WORKFLOW) NONE Leader Always => "planned items of open fan-outs without an end";
    REPLICAS = Gauge "lockgate.replicas" ["{replica}"] (REPLICA_STATE) NONE Leader Always => "replicas";
    SCHEDULES_OVERDUE = Gauge "lockgate.schedules.overdue" ["{schedule}"] () NONE Leader Always => "schedules whose slot is past and was not fired";
    SCHEDULES_WITH_PROBLEM = Gauge "lockgate.schedules.with_problem" ["{schedule}"] () NONE Leader Always => "schedules that cannot be fired";
    STUCK = Gauge "lockgate.stuck" ["{thing}"] (STUCK_KIND) NONE Leader Always => "things that do not move, as in lockgate.v_stuck";
    INVARIANTS_VIOLATED = Gauge "lockgate.invariants.violated" ["{violation}"] () NONE Leader Always => "rows of lockgate.v_invariants";
    OLDEST_SNAPSHOT = Gauge "lockgate.db.oldest_snapshot.age" ["s"] () NONE Leader Always => "age of the oldest transaction that keeps deleted rows";
    DEAD_ROWS = Gauge "lockgate.db.dead_rows" ["{row}"] (TABLE) NONE Leader Always => "deleted rows that are still there";
    TABLE_SIZE = Gauge "lockgate.db.table.size" ["By"] (TABLE) NONE Leader Always => "bytes of a table with its indexes";
    FLEET_MEASURED = Gauge "lockgate.fleet.measured.age" ["s"] () NONE Leader Always => "how long ago the fleet was measured; what is stuck, and tables, up to four times as long";
}

/// All metrics there are.
pub fn all_metrics() -> impl Iterator<Item = &'static MetricDef> {
    PROCESS_METRICS.iter().chain(FLEET_METRICS).copied()
}
