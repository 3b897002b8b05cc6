//! The fan-outs this process knows: what its batches send, found by running the workflow's code up to the step.

use std::collections::{BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::FutureExt;
use tokio::sync::{OnceCell, oneshot};

use super::attach_host::AttachHost;
use crate::lifecycle::{Fleet, FleetError, RunId, WorkRun};
use crate::telemetry::{RunTrace, WorkflowMeter, meters};
use crate::workflow::{Context, FanOut, Registry, Resources};

/// How long a workflow's code may take to reach a step whose predecessors are all done.
const ATTACH_WITHIN: Duration = Duration::from_secs(30);
/// Pause before the code of a run is tried again that did not reach the step here; twice as long after each next time, up
/// to the longest. Others may have code that does.
const FIRST_UNREACHED_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_UNREACHED_PAUSE: Duration = Duration::from_secs(60);

/// A fan-out that nobody here asked for this long is forgotten, and found again when it is needed.
const KEPT: Duration = Duration::from_secs(60);
/// The same while its source fails: the count of failures must outlive the pauses between them, also where others leave few
/// batches to this replica.
const KEPT_IN_TROUBLE: Duration = Duration::from_secs(600);

/// Pause after the first failure of a source; each next one is twice as long, six times over.
const FIRST_SOURCE_PAUSE: Duration = Duration::from_millis(200);
/// Failures of a source in a row before its run fails: the pauses between them add up to most of a minute, longer than
/// a database takes to restart.
const SOURCE_FAILURES: u32 = 9;

#[derive(Debug, Default)]
struct SourceFailures {
    count: u32,
    last: Option<Instant>,
}

/// A fan-out and what was learnt of it.
pub(crate) struct KnownFanOut {
    pub(crate) fan_out: Arc<dyn FanOut>,
    pub(crate) run: Arc<WorkRun>,
    pub(crate) path: String,
    pub(crate) trace: RunTrace,
    pub(crate) meter: Arc<WorkflowMeter>,
    topics: Mutex<BTreeSet<String>>,
    source_failures: Mutex<SourceFailures>,
    asked: Mutex<Instant>,
}

impl KnownFanOut {
    fn new(run: Arc<WorkRun>, path: String, fan_out: Arc<dyn FanOut>) -> Self {
        Self {
            fan_out,
            trace: RunTrace::of(run.id, run.traceparent.as_deref()),
            meter: meters().workflow(&run.workflow),
            run,
            path,
            topics: Mutex::default(),
            source_failures: Mutex::default(),
            asked: Mutex::new(Instant::now()),
        }
    }

    fn asked_for(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn was_asked_for(&self, now: Instant) -> bool {
        let kept = if self.lock_failures().count > 0 {
            KEPT_IN_TROUBLE
        } else {
            KEPT
        };
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        now.saturating_duration_since(asked) < kept
    }

    /// The topics its messages have gone to so far.
    pub(crate) fn topics(&self) -> Vec<String> {
        self.topics
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }

    pub(crate) fn sends_to(&self, topic: &str) {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if !topics.contains(topic) {
            topics.insert(topic.to_owned());
        }
    }

    /// Counts a failure of the source; answers how long to wait before it is tried again, none when it has failed for
    /// so long that the run should. All workers meet the same trouble at once, so failures count once a pause.
    pub(crate) fn source_failed(&self) -> Option<Duration> {
        let mut failures = self.lock_failures();
        let pause = FIRST_SOURCE_PAUSE * (1 << failures.count.min(6));
        if failures.last.is_none_or(|last| last.elapsed() >= pause) {
            failures.count += 1;
            failures.last = Some(Instant::now());
        }
        (failures.count < SOURCE_FAILURES).then_some(pause)
    }

    pub(crate) fn source_worked(&self) {
        let mut failures = self.lock_failures();
        if failures.count > 0 {
            *failures = SourceFailures::default();
        }
    }

    fn lock_failures(&self) -> MutexGuard<'_, SourceFailures> {
        self.source_failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that is known, or just being found: by one worker, however many wait for it.
type Place = Arc<OnceCell<Arc<KnownFanOut>>>;

/// Until when the code of a run is not run here.
#[derive(Debug, Clone, Copy)]
struct Unreached {
    until: Instant,
    pause: Duration,
}

/// All of them, by run and path.
pub(crate) struct FanOuts {
    fleet: Arc<dyn Fleet>,
    registry: Registry,
    resources: Resources,
    known: Mutex<HashMap<RunId, HashMap<String, Place>>>,
    unreached: Mutex<HashMap<RunId, Unreached>>,
}

impl FanOuts {
    pub(crate) fn new(fleet: Arc<dyn Fleet>, registry: Registry, resources: Resources) -> Self {
        Self {
            fleet,
            registry,
            resources,
            known: Mutex::default(),
            unreached: Mutex::default(),
        }
    }

    /// The owner of a run has reached the step. What was learnt of it by its batches stays.
    pub(crate) fn learn(&self, run: &Arc<WorkRun>, path: &str, fan_out: Arc<dyn FanOut>) -> Arc<KnownFanOut> {
        self.unreached().remove(&run.id);
        let mut all = self.known();
        let place = all.entry(run.id).or_default().entry(path.to_owned()).or_default();
        if let Some(known) = place.get() {
            known.asked_for();
            return known.clone();
        }
        let known = Arc::new(KnownFanOut::new(run.clone(), path.to_owned(), fan_out));
        // Whoever is about to find it goes on with what it finds; all others have this one.
        *place = Arc::new(OnceCell::new_with(Some(known.clone())));
        known
    }

    pub(crate) fn of_run(&self, run: RunId) -> Vec<Arc<KnownFanOut>> {
        let all = self.known();
        let places = all.get(&run).into_iter().flat_map(HashMap::values);
        places.filter_map(|place| place.get().cloned()).collect()
    }

    /// Runs of which no batch is to be claimed here: with a known fan-out of which this does not hold, or whose code did not
    /// reach its step a moment ago.
    pub(crate) fn declined(&self, may_send: impl Fn(&KnownFanOut) -> bool) -> Vec<RunId> {
        let now = Instant::now();
        let refuses = |place: &Place| place.get().is_some_and(|known| !may_send(known));
        let all = self.known();
        let known = all.iter().filter(|(_, places)| places.values().any(refuses));
        let mut declined: Vec<RunId> = known.map(|(run, _)| *run).collect();
        drop(all);
        let unreached = self.unreached();
        declined.extend(unreached.iter().filter(|(_, of)| of.until > now).map(|(run, _)| *run));
        declined
    }

    /// Whether the code of the run did not reach a step of it here a moment ago.
    pub(crate) fn is_unreached(&self, run: RunId) -> bool {
        let now = Instant::now();
        self.unreached().get(&run).is_some_and(|of| of.until > now)
    }

    /// Forgets those that nothing here works on and nobody asked for in a while, but for those in trouble.
    pub(crate) fn forget_unused(&self, now: Instant, in_trouble: impl Fn(&KnownFanOut) -> bool) {
        let used =
            |known: &Arc<KnownFanOut>| Arc::strong_count(known) > 1 || known.was_asked_for(now) || in_trouble(known);
        self.known().retain(|_, places| {
            places.retain(|_, place| place.get().map_or(Arc::strong_count(place) > 1, &used));
            !places.is_empty()
        });
        self.unreached()
            .retain(|_, of| of.until + LONGEST_UNREACHED_PAUSE > now);
    }

    /// The fan-out of a batch; none when it cannot be found here at this time, which was said.
    pub(crate) async fn of_batch(&self, run: RunId, path: &str) -> Option<Arc<KnownFanOut>> {
        let place = {
            let mut all = self.known();
            all.entry(run).or_default().entry(path.to_owned()).or_default().clone()
        };
        let known = place.get_or_try_init(|| self.find(run, path)).await.ok()?;
        known.asked_for();
        Some(known.clone())
    }

    async fn find(&self, run: RunId, path: &str) -> Result<Arc<KnownFanOut>, ()> {
        if self.is_unreached(run) {
            return Err(());
        }
        let read = self.fleet.read_run(run).await.map_err(|error: FleetError| {
            tracing::warn!(name: "looking_failed", kind = "code", %error, "work could not be looked for");
        })?;
        let attaching = AssertUnwindSafe(self.attach(run, read, path)).catch_unwind();
        let attached = attaching
            .await
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the workflow's code panicked")));
        if attached.is_ok() {
            self.unreached().remove(&run);
        }
        attached.map_err(|error| {
            let pause = self.not_reached(run);
            let (error, pause_ms) = (format!("{error:#}"), pause.as_millis() as u64);
            tracing::error!(name: "code_not_reached", %run, step = path, pause_ms, error, "the code of a run's batches cannot be run here: they are left to others");
        })
    }

    async fn attach(&self, id: RunId, read: Option<WorkRun>, path: &str) -> anyhow::Result<Arc<KnownFanOut>> {
        let mut run = read.with_context(|| format!("run {id} is over"))?;
        let steps = run.take_record().steps;
        let run = Arc::new(run);
        let workflow = self
            .registry
            .get(&run.workflow)
            .with_context(|| format!("no workflow {} here", run.workflow))?;
        // Code of another version may come to the same place and send something else.
        anyhow::ensure!(
            workflow.runnable().replays(&run.workflow, run.code_version),
            "the run is of version {} of workflow {}, which is not replayed here",
            run.code_version,
            run.workflow
        );
        let (found, finds) = oneshot::channel();
        let host = AttachHost::new(&run, steps, path, found);
        let code = workflow.run(
            Context::new(run.clone(), Arc::new(host), self.resources.clone()),
            &run.params,
        );
        let fan_out = tokio::select! {
            Ok(fan_out) = finds => fan_out,
            ended = code => {
                let end = ended.err().map_or_else(|| "it returned".to_owned(), |error| format!("{error:#}"));
                anyhow::bail!("workflow {} did not reach step {path}, which has batches: {end}", run.workflow)
            }
            () = tokio::time::sleep(ATTACH_WITHIN) => {
                anyhow::bail!("workflow {} did not reach step {path} within {ATTACH_WITHIN:?}", run.workflow)
            }
        };
        Ok(Arc::new(KnownFanOut::new(run, path.to_owned(), fan_out)))
    }

    /// Answers for how long its code is not run here.
    fn not_reached(&self, run: RunId) -> Duration {
        let mut unreached = self.unreached();
        let before = unreached.get(&run).map(|of| of.pause * 2);
        let pause = before.map_or(FIRST_UNREACHED_PAUSE, |pause| pause.min(LONGEST_UNREACHED_PAUSE));
        let until = Instant::now() + pause;
        unreached.insert(run, Unreached { until, pause });
        pause
    }

    fn known(&self) -> MutexGuard<'_, HashMap<RunId, HashMap<String, Place>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unreached(&self) -> MutexGuard<'_, HashMap<RunId, Unreached>> {
        self.unreached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
