//! What the leader asks of the store.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::lifecycle::{FleetError, RunId};
use crate::trigger::{ScheduleRow, Step};

/// The lease that makes one replica the leader. One process start has one identity, which the store knows.
#[async_trait]
pub trait LeaderStore: Send + Sync + 'static {
    /// Takes the lease if it is over or this replica's own, and answers the new term; `None`: somebody else leads.
    async fn elect_leader(&self, lease: Duration) -> Result<Option<i64>, FleetError>;
    /// Prolongs this replica's term; `false`: it is over.
    async fn renew_leader(&self, term: i64, lease: Duration) -> Result<bool, FleetError>;
    /// Ends this replica's term now and tells the others; `false`: it was over.
    async fn resign_leader(&self, term: i64) -> Result<bool, FleetError>;
}

/// A schedule to look at, with the store's clock of that look.
#[derive(Debug, Clone, PartialEq)]
pub struct DueSchedule {
    /// The clock.
    pub now: DateTime<Utc>,
    /// The schedule.
    pub schedule: ScheduleRow,
    /// What it starts runs of.
    pub workflow: String,
}

/// What one look found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DueSchedules {
    /// Those to look at.
    pub schedules: Vec<DueSchedule>,
    /// How long it is until the first slot of all schedules; zero: it has come; `None`: there is none.
    pub next_in: Option<Duration>,
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepOutcome {
    /// The slot's run was started now.
    Fired(RunId),
    /// The slot had its run already; the schedule moved on.
    Found(RunId),
    /// The slot was passed over, for this reason; the schedule moved on.
    PassedOver(String),
    /// There was nothing to fire; the schedule moved on.
    Settled,
    /// The schedule is not as it was read; nothing was written.
    Changed,
    /// The term is over; nothing was written.
    Deposed,
}

/// The schedules, written under a term only.
#[async_trait]
pub trait ScheduleStore: Send + Sync + 'static {
    /// Up to a page of due, new or edited schedules of each kind, without those named.
    async fn due_schedules(&self, page: i64, without: &[String]) -> Result<DueSchedules, FleetError>;
    /// Takes one step in one transaction.
    async fn take_step(&self, term: i64, schedule: &ScheduleRow, step: &Step) -> Result<StepOutcome, FleetError>;
    /// Sets a schedule aside until it is edited; `true` when the problem is news.
    async fn mark_schedule_problem(&self, term: i64, schedule: &ScheduleRow, problem: &str)
    -> Result<bool, FleetError>;
    /// Makes the schedules that were set aside due for one more look.
    async fn retry_schedule_problems(&self, term: i64) -> Result<(), FleetError>;
}

/// What is pruned, each by its own age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Prunable {
    /// Finished runs that owe nothing, with all that belongs to them.
    Runs,
    /// Audit rows of no run.
    Transitions,
    /// Settled direct commands.
    Undelivered,
    /// Replicas that are gone.
    Replicas,
    /// What consumers need not remember any more, and their dead records.
    Inbox,
    /// What replicas counted.
    Measures,
}

impl Prunable {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Runs,
        Self::Transitions,
        Self::Undelivered,
        Self::Replicas,
        Self::Inbox,
        Self::Measures,
    ];
}

/// What a page of pruning came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// Rows that are gone.
    pub rows: u64,
    /// Whether there may be more to delete now.
    pub more: bool,
}

/// Deletes what is past its time.
#[async_trait]
pub trait RetentionStore: Send + Sync + 'static {
    /// Deletes up to a page of rows older than that; of runs a few pages, if they are small.
    async fn prune(&self, what: Prunable, older_than: Duration, page: i32) -> Result<Pruned, FleetError>;
}

/// One value of the fleet.
#[derive(Debug, Clone, PartialEq)]
pub struct FleetGauge {
    /// Its name in the catalogue of metrics.
    pub gauge: String,
    /// Of which queue, state, workflow, kind or table; empty: of the whole fleet.
    pub label: String,
    /// The value.
    pub value: f64,
}

/// Reads the fleet as the views show it, and what was done in SQL.
#[async_trait]
pub trait MeasureStore: Send + Sync + 'static {
    /// How much waits, runs and lives.
    async fn measure_fleet(&self) -> Result<Vec<FleetGauge>, FleetError>;
    /// What does not move or must not be, and how large the tables are.
    async fn measure_trouble(&self) -> Result<Vec<FleetGauge>, FleetError>;
    /// Takes up to a page of what nobody has told of after this place, so that nobody else does.
    async fn take_untold(&self, after: i64, page: i64) -> Result<Vec<Untold>, FleetError>;
}

/// A start or an end of a run that was done in SQL, and that nobody has told of.
#[derive(Debug, Clone, PartialEq)]
pub struct Untold {
    /// Its place in the order of writing.
    pub place: i64,
    /// The run.
    pub run: RunId,
    /// Its workflow.
    pub workflow: String,
    /// From where it is claimed.
    pub queue: String,
    /// The slot it stands for.
    pub slot: Option<DateTime<Utc>>,
    /// Who started it; none: it has ended, or was set aside.
    pub started_by: Option<String>,
    /// What it was when it had ended or was set aside; none: it was started.
    pub ended_as: Option<String>,
    /// It is still so, and nobody tells of another end.
    pub stands: bool,
    /// Token of its last claim.
    pub token: i64,
    /// Holders in a row that died on it.
    pub attempts: u16,
    /// Trace context of its start.
    pub traceparent: Option<String>,
    /// From its start to its end.
    pub took: Duration,
    /// How long ago that was.
    pub since: Duration,
}

/// Who is told what the leader measured.
pub trait FleetGauges: Send + Sync + 'static {
    /// These are all values there are now; what was told before and is not among them is no more.
    fn measured(&self, gauges: &[FleetGauge]);
    /// This process leads no more: what it was told is nobody's word now.
    fn forgotten(&self);
}

/// Nobody is told.
impl FleetGauges for () {
    fn measured(&self, _: &[FleetGauge]) {}
    fn forgotten(&self) {}
}

/// The kinds of `lockgate.v_stuck`.
pub const STUCK_KINDS: [&str; 25] = [
    "no_leader",
    "run_lease",
    "batch_lease",
    "lane_lease",
    "undelivered_lease",
    "run_ready",
    "queue_paused",
    "run_stopping",
    "run_undoing",
    "run_overdue",
    "run_quarantined",
    "run_paused_long",
    "run_held_long",
    "run_late",
    "fan_out_open",
    "fan_out_idle",
    "source_trouble",
    "schedule_late",
    "schedule_broken",
    "schedule_failed",
    "undelivered_due",
    "outbox_waiting",
    "breaker_open",
    "dead_letters",
    "old_snapshot",
];
