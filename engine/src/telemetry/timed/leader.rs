//! The stores of the leader.

use std::sync::OnceLock;
use std::time::Duration;

use super::{Timed, measured, timed};
use crate::leader::{
    DueSchedules, FleetGauge, LeaderStore, MeasureStore, Prunable, Pruned, RetentionStore, ScheduleStore, StepOutcome,
    Untold,
};
use crate::lifecycle::FleetError;
use crate::telemetry::Timing;
use crate::trigger::{ScheduleRow, Step};

timed! { LeaderStore, FleetError {
    elect_leader(lease: Duration) -> Option<i64>;
    renew_leader(term: i64, lease: Duration) -> bool;
    resign_leader(term: i64) -> bool;
} }

timed! { ScheduleStore, FleetError {
    due_schedules(page: i64, without: &[String]) -> DueSchedules;
    take_step(term: i64, schedule: &ScheduleRow, step: &Step) -> StepOutcome;
    mark_schedule_problem(term: i64, schedule: &ScheduleRow, problem: &str) -> bool;
    retry_schedule_problems(term: i64) -> ();
} }

timed! { MeasureStore, FleetError {
    measure_fleet() -> Vec<FleetGauge>;
    measure_trouble() -> Vec<FleetGauge>;
    take_untold(after: i64, page: i64) -> Vec<Untold>;
} }

timed! { RetentionStore, FleetError {
    prune(what: Prunable, older_than: Duration, page: i32) -> Pruned;
} }
