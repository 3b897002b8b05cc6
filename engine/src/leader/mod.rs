//! The leader: the one replica that fires schedules, sweeps and prunes.
//!
//! Leadership is a row with a term, never a lock. Whoever holds it believes in it only up to a moment that lies before
//! the row's end, measured by its own monotonic clock from before each request; what it writes names the term, and a
//! newer term makes that write nothing. A paused or cut-off leader so does no harm, however long it takes to notice.
//!
//! The jobs run side by side, each in a task of its own, apart from the renewal: a slow, failing or panicking one stops
//! neither the others nor the lease.

mod bell;
mod job;
mod lease;
mod measure;
mod retention;
mod scheduler;
mod store;
mod sweep;
mod telling;
#[cfg(test)]
mod tests;
mod untold;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::lifecycle::Fleet;
pub use bell::{Bell, LeaderHints};
pub use job::{Job, Reign};
pub use lease::LeaderLoop;
pub use measure::Measure;
pub use retention::{Retention, RetentionSettings};
pub use scheduler::{Scheduler, Ticked};
pub use store::{
    DueSchedule, DueSchedules, FleetGauge, FleetGauges, LeaderStore, MeasureStore, Prunable, Pruned, RetentionStore,
    STUCK_KINDS, ScheduleStore, StepOutcome, Untold,
};
pub use sweep::Sweeper;
pub use untold::TellUntold;

/// How a replica leads.
#[derive(Debug, Clone)]
pub struct LeaderSettings {
    /// How long leadership lasts without renewal.
    pub lease: Duration,
    /// How often it is renewed, and how often the others try; at most a third of the lease.
    pub renew: Duration,
    /// How often the fleet is swept.
    pub sweep: Duration,
    /// How often schedules are looked at when no slot is due and nobody would ring: how late an edit is seen then. Where
    /// somebody would, a fifth as often. A slot is looked at when it is due.
    pub tick: Duration,
    /// The age up to which a slot is on time; covers a change of leader.
    pub tolerance: Duration,
    /// How often pruning starts anew.
    pub prune: Duration,
    /// How often the fleet is measured; zero: never.
    pub measure: Duration,
    /// What is pruned when.
    pub retention: RetentionSettings,
}

impl Default for LeaderSettings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            renew: Duration::from_secs(5),
            sweep: Duration::from_secs(10),
            tick: Duration::from_secs(2),
            tolerance: Duration::from_secs(60),
            prune: Duration::from_secs(60),
            measure: Duration::from_secs(15),
            retention: RetentionSettings::default(),
        }
    }
}

/// The stores that the leader's jobs work on.
#[derive(Clone)]
pub struct LeaderStores {
    /// The lease; best on connections of its own, so that busy jobs cannot starve the renewal.
    pub lease: Arc<dyn LeaderStore>,
    /// The fleet, to sweep.
    pub fleet: Arc<dyn Fleet>,
    /// The schedules.
    pub schedules: Arc<dyn ScheduleStore>,
    /// What is pruned.
    pub retention: Arc<dyn RetentionStore>,
    /// What is measured.
    pub measures: Arc<dyn MeasureStore>,
    /// Who is told.
    pub gauges: Arc<dyn FleetGauges>,
}

/// Leads whenever nobody else does, until told to stop; then resigns. `hints` make it try at once, such as when the
/// leader resigned, and look at once at what was edited; `term` shows the term while it leads.
pub async fn lead(
    settings: LeaderSettings,
    stores: LeaderStores,
    hints: LeaderHints,
    term: watch::Sender<Option<i64>>,
    stop: CancellationToken,
) {
    let scheduler = Scheduler::new(stores.schedules, settings.tick, settings.tolerance).rung_by(hints.schedules);
    let mut jobs: Vec<Arc<dyn Job>> = vec![
        Arc::new(scheduler),
        Arc::new(Sweeper::new(stores.fleet, settings.sweep)),
        Arc::new(Retention::new(
            stores.retention,
            settings.prune,
            settings.retention.clone(),
        )),
        Arc::new(TellUntold::new(stores.measures.clone(), settings.sweep * 2)),
    ];
    if !settings.measure.is_zero() {
        jobs.push(Arc::new(Measure::new(stores.measures, stores.gauges, settings.measure)));
    }
    LeaderLoop::new(settings.lease, settings.renew, stores.lease, jobs, hints.resigned, term)
        .run(stop)
        .await;
}
