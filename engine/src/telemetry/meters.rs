//! What this process counts and measures, with a method for each thing that happens.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use opentelemetry::metrics::Meter;

use super::catalogue::{self as c, MetricDef, Values};
use super::closed::*;
use super::instruments::Instruments;
use super::series::Watching;
use super::workflow_meter::WorkflowMeter;

/// What requests come by: TLS ends before us.
const HTTP: &str = "http";

/// What this process counts and measures. What happens often has its own count, kept by who counts it: see
/// [`Instruments::count`] and [`Meters::workflow`].
pub(crate) struct Meters {
    instruments: Arc<Instruments>,
    workflows: RwLock<HashMap<Box<str>, Arc<WorkflowMeter>>>,
    /// By method, in the order of its values.
    requests: Vec<Arc<Active>>,
    _requests: Vec<Watching>,
}

/// Requests of one method.
#[derive(Default)]
struct Active {
    now: AtomicI64,
    /// Whether there ever was one: who serves nothing has nothing to say.
    ever: AtomicBool,
}

impl Deref for Meters {
    type Target = Instruments;

    fn deref(&self) -> &Instruments {
        &self.instruments
    }
}

impl Meters {
    /// Makes the instruments. Once a provider: each makes series of its own.
    pub(crate) fn on(meter: &Meter) -> Self {
        let instruments = Arc::new(Instruments::on(meter));
        let requests: Vec<Arc<Active>> = Method::VALUES.iter().map(|_| Arc::default()).collect();
        let watch = |(method, active): (&&'static str, &Arc<Active>)| {
            let active = active.clone();
            instruments.watch(&c::HTTP_ACTIVE, &[method, HTTP], move || {
                let ever = active.ever.load(Ordering::Relaxed);
                ever.then(|| active.now.load(Ordering::Relaxed) as f64)
            })
        };
        let watching = Method::VALUES.iter().zip(&requests).map(watch).collect();
        Self {
            instruments,
            workflows: RwLock::default(),
            requests,
            _requests: watching,
        }
    }

    /// What is counted of a workflow; all beyond the bound of names share one.
    pub(crate) fn workflow(&self, name: &str) -> Arc<WorkflowMeter> {
        let known = self.workflows.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(meter) = known.get(name) {
            return meter.clone();
        }
        drop(known);
        let bounded = self.bounded(&c::PLAN_ITEMS, name);
        let mut known = self.workflows.write().unwrap_or_else(PoisonError::into_inner);
        let meter = known.entry(bounded.into());
        let make = || Arc::new(WorkflowMeter::new(self.instruments.clone(), bounded));
        meter.or_insert_with(make).clone()
    }

    /// The leader measured the fleet: these are all its gauges, each with the values of its attributes, in place of those
    /// before.
    pub(crate) fn fleet_measured(&self, values: &[(&'static MetricDef, Vec<&str>, f64)]) {
        for def in c::FLEET_METRICS {
            let own = values.iter().filter(|(of, _, _)| of.name == def.name);
            self.tell(def, own.map(|(_, labels, value)| (labels.as_slice(), *value)));
        }
    }

    /// It leads no more, so that it has nothing to say of the fleet.
    pub(crate) fn fleet_forgotten(&self) {
        self.fleet_measured(&[]);
    }

    fn took(&self, def: &'static MetricDef, values: &[&str], time: Duration) {
        self.record(def, values, time.as_secs_f64());
    }
}

/// What happens to batches, runs and the fleet.
impl Meters {
    /// A batch was handed back.
    pub(crate) fn batch_handed_back(&self, why: HandBackWhy) {
        self.add(&c::BATCH_HAND_BACKS, &[why.text()], 1);
    }

    /// Writes of many runs went in one statement.
    pub(crate) fn group_went(&self, group: GroupName, writes: usize, time: Duration, trouble: Option<StoreTrouble>) {
        self.record(&c::GROUP_SIZE, &[group.text()], writes as f64);
        self.took(&c::GROUP_DURATION, &[group.text(), or_none(trouble)], time);
    }

    /// Leases were renewed.
    pub(crate) fn leases_renewed(&self, kind: LeaseKind, leases: usize) {
        self.add(&c::LEASES_RENEWED, &[kind.text()], leases as u64);
    }

    /// Leases ended under their holder, which is this process.
    pub(crate) fn leases_lost(&self, kind: LeaseKind, leases: usize) {
        self.add(&c::LEASES_LOST, &[kind.text()], leases as u64);
    }

    /// Such leases are held here: how many were lost is told from now on, so that the first loss is seen to be one.
    pub(crate) fn holds_leases(&self, kinds: &[LeaseKind]) {
        for kind in kinds {
            self.count(&c::LEASES_LOST, &[kind.text()]);
        }
    }

    /// The code of these workflows is here: what may come to be counted of them is told from now on. Not where they are more
    /// than have names of their own, which are for those that something happens to.
    pub(crate) fn has_code_of(&self, workflows: &[String]) {
        if matches!(c::WORKFLOW.values, Values::Bounded(most) if workflows.len() <= most) {
            for workflow in workflows {
                self.workflow(workflow).begin();
            }
        }
    }

    /// It may lead: how candidacies and terms end is told from now on.
    pub(crate) fn is_candidate(&self) {
        self.holds_leases(&[LeaseKind::Leader]);
        for end in ElectionEnd::VALUES {
            self.count(&c::ELECTIONS, &[end]);
        }
    }

    /// The sweep took these over.
    pub(crate) fn recovered(&self, what: Recovered, things: u64) {
        self.add(&c::RECOVERED, &[what.text()], things);
    }

    /// A candidacy or a term ended so.
    pub(crate) fn election(&self, end: ElectionEnd) {
        self.add(&c::ELECTIONS, &[end.text()], 1);
    }

    /// A job of the leader had a turn.
    pub(crate) fn job_turned(&self, job: LeaderJob, end: JobEnd, time: Duration) {
        self.took(&c::JOB_DURATION, &[job.text(), end.text()], time);
    }

    /// A slot of a schedule came.
    pub(crate) fn slot_came(&self, end: SlotEnd) {
        self.slots_came(end, 1);
    }

    /// So many slots of a schedule came to the same end.
    pub(crate) fn slots_came(&self, end: SlotEnd, slots: u64) {
        self.add(&c::SCHEDULE_SLOTS, &[end.text()], slots);
    }

    /// A slot was fired so long after its instant.
    pub(crate) fn slot_fired(&self, lag: Duration) {
        self.slot_came(SlotEnd::Fired);
        self.took(&c::SCHEDULE_LAG, &[], lag);
    }

    /// Retention deleted rows.
    pub(crate) fn pruned(&self, what: Pruned, rows: u64) {
        self.add(&c::RETENTION_ROWS, &[what.text()], rows);
    }

    /// The database's clock less ours, in seconds.
    pub(crate) fn clock_offset(&self, seconds: f64) {
        self.value(&c::CLOCK_OFFSET, &[]).set(seconds);
    }
}

/// What happens to messages.
impl Meters {
    /// Messages were acknowledged.
    pub(crate) fn sent(&self, topic: &str, path: SendPath, messages: u64) {
        self.add(&c::SENT_MESSAGES, &["kafka", "send", topic, path.text(), ""], messages);
    }

    /// Messages were not.
    pub(crate) fn not_sent(&self, topic: &str, path: SendPath, why: SendError, messages: u64) {
        self.add(
            &c::SENT_MESSAGES,
            &["kafka", "send", topic, path.text(), why.text()],
            messages,
        );
    }

    /// From the first offer of a batch or page to its last outcome.
    pub(crate) fn sending_took(&self, topic: &str, path: SendPath, time: Duration) {
        self.took(&c::SEND_DURATION, &["kafka", "send", topic, path.text()], time);
    }

    /// A producer was made.
    pub(crate) fn producer_made(&self) {
        self.add(&c::KAFKA_PRODUCERS, &[], 1);
    }

    /// The breaker of a topic opened.
    pub(crate) fn breaker_opened(&self, topic: &str, why: BreakerWhy) {
        self.add(&c::BREAKER_OPENED, &[topic, why.text()], 1);
    }

    /// Commands of the outbox were sent.
    pub(crate) fn relayed(&self, end: RelayEnd, messages: u64) {
        self.add(&c::OUTBOX_MESSAGES, &[end.text()], messages);
    }

    /// Undelivered messages were tried again.
    pub(crate) fn redelivered(&self, end: RedeliveryEnd, messages: u64) {
        self.add(&c::REDELIVERED, &[end.text()], messages);
    }

    /// A page of messages was read.
    pub(crate) fn consumed(&self, topic: &str, group: &str, messages: u64) {
        self.add(&c::CONSUMED_MESSAGES, &["kafka", "poll", topic, group], messages);
    }

    /// A page of messages was settled, or was not.
    pub(crate) fn page_processed(&self, topic: &str, group: &str, time: Duration, trouble: Option<ProcessTrouble>) {
        self.took(
            &c::PROCESS_DURATION,
            &["kafka", "process", topic, group, or_none(trouble)],
            time,
        );
    }

    /// What became of consumed messages.
    pub(crate) fn inbox(&self, group: &str, end: InboxEnd, messages: u64) {
        self.add(&c::INBOX_MESSAGES, &[group, end.text()], messages);
    }
}

/// What servers and clients of ours do.
impl Meters {
    /// A verb of a store was answered.
    pub(crate) fn verb(&self, verb: &str, time: Duration, trouble: Option<StoreTrouble>) {
        self.took(&c::DB_DURATION, &["postgresql", verb, or_none(trouble)], time);
    }

    /// The wait for a connection was given up.
    pub(crate) fn connection_timed_out(&self, pool: Pool) {
        self.add(&c::DB_TIMEOUTS, &[pool.text()], 1);
    }

    /// A request to the HTTP API was answered; its route is the pattern, its error what stands for 5xx, if it is one.
    pub(crate) fn request(&self, method: Method, route: &str, status: u16, error: &str, time: Duration) {
        let values = [method.text(), HTTP, route, &status.to_string(), error];
        self.took(&c::HTTP_DURATION, &values, time);
    }

    /// A request is being answered, until this is dropped.
    pub(crate) fn request_begins(&self, method: Method) -> ActiveRequest {
        let active = &self.requests[method.index()];
        active.now.fetch_add(1, Ordering::Relaxed);
        active.ever.store(true, Ordering::Relaxed);
        ActiveRequest(active.clone())
    }
}

/// A request that is being answered.
pub(crate) struct ActiveRequest(Arc<Active>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

fn or_none<T: Closed>(value: Option<T>) -> &'static str {
    value.map_or("", Closed::text)
}

#[cfg(test)]
mod tests;
