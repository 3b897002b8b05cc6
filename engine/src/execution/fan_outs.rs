//! The fan-outs this process knows: what its batches send, found by running the workflow's code up to the step.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::oneshot;

use super::attach_host::AttachHost;
use crate::lifecycle::{Fleet, RunId, StepState, WorkRun};
use crate::telemetry::{RunTrace, WorkflowMeter, meters};
use crate::workflow::{Context, FanOut, Registry, Resources};

/// How long a workflow's code may take to reach a step whose predecessors are all done.
const ATTACH_WITHIN: Duration = Duration::from_secs(30);

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
        }
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

/// All of them, by run and path.
pub(crate) struct FanOuts {
    fleet: Arc<dyn Fleet>,
    registry: Registry,
    resources: Resources,
    known: Mutex<HashMap<(RunId, String), Arc<KnownFanOut>>>,
}

impl FanOuts {
    pub(crate) fn new(fleet: Arc<dyn Fleet>, registry: Registry, resources: Resources) -> Self {
        Self {
            fleet,
            registry,
            resources,
            known: Mutex::default(),
        }
    }

    /// The owner of a run has reached the step.
    pub(crate) fn learn(&self, run: &Arc<WorkRun>, path: &str, fan_out: Arc<dyn FanOut>) -> Arc<KnownFanOut> {
        let known = Arc::new(KnownFanOut::new(run.clone(), path.to_owned(), fan_out));
        self.known().insert((run.id, path.to_owned()), known.clone());
        known
    }

    pub(crate) fn of_run(&self, run: RunId) -> Vec<Arc<KnownFanOut>> {
        self.known()
            .iter()
            .filter(|((of, _), _)| *of == run)
            .map(|(_, known)| known.clone())
            .collect()
    }

    /// Runs with a known fan-out of which this holds.
    pub(crate) fn runs_where(&self, holds: impl Fn(&KnownFanOut) -> bool) -> Vec<RunId> {
        let known = self.known();
        known
            .iter()
            .filter(|(_, known)| holds(known))
            .map(|((run, _), _)| *run)
            .collect()
    }

    /// Forgets runs that are not among these; they are found again when needed.
    pub(crate) fn keep(&self, runs: &BTreeSet<RunId>) {
        self.known().retain(|(run, _), _| runs.contains(run));
    }

    /// The fan-out of a batch.
    pub(crate) async fn of_batch(&self, run: RunId, path: &str) -> anyhow::Result<Arc<KnownFanOut>> {
        if let Some(known) = self.known().get(&(run, path.to_owned())) {
            return Ok(known.clone());
        }
        let mut run = self
            .fleet
            .read_run(run)
            .await?
            .with_context(|| format!("run {run} is over"))?;
        let steps = run.take_record().steps;
        let run = Arc::new(run);
        let fan_out = self.attach(&run, steps, path).await?;
        Ok(self.learn(&run, path, fan_out))
    }

    async fn attach(&self, run: &Arc<WorkRun>, steps: Vec<StepState>, path: &str) -> anyhow::Result<Arc<dyn FanOut>> {
        let workflow = self
            .registry
            .get(&run.workflow)
            .with_context(|| format!("no workflow {} here", run.workflow))?;
        let (found, finds) = oneshot::channel();
        let host = AttachHost::new(run, steps, path, found);
        let code = workflow.run(
            Context::new(run.clone(), Arc::new(host), self.resources.clone()),
            &run.params,
        );
        tokio::select! {
            Ok(fan_out) = finds => Ok(fan_out),
            ended = code => {
                let end = ended.err().map_or_else(|| "it returned".to_owned(), |error| format!("{error:#}"));
                anyhow::bail!("workflow {} did not reach step {path}, which has batches: {end}", run.workflow)
            }
            () = tokio::time::sleep(ATTACH_WITHIN) => {
                anyhow::bail!("workflow {} did not reach step {path} within 30s", run.workflow)
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<(RunId, String), Arc<KnownFanOut>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
