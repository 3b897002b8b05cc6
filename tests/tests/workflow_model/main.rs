//! Whatever is done to runs in whatever order, the store on Postgres answers as the one in memory does, both keep to a
//! reference that is small enough to be seen through, and no result, no wake-up and no claim is lost.
#![allow(clippy::unwrap_used, clippy::panic)]

mod gate;
mod ops;
mod reference;
mod run;
mod story;
mod take;
mod words;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use lockgate::lifecycle::{LetGo, RunId, StepStatus};
use lockgate_tests::conformance::runs::{MemoryWorld, PostgresWorld, RunSeen, RunWorld, Wake, check_runs};
use proptest::collection::vec;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngSeed, TestRunner};

use ops::{Op, op};
use reference::Reference;
use story::{Made, Step, prepare};
use take::{Told, take};
use words::say_step;

const LEASE: Duration = Duration::from_secs(3_600);
/// Each has a database of its own; `PROPTEST_CASES` asks for more.
const CASES: u32 = 16;
const MOST_OPS: usize = 120;

/// All of a world that can be compared.
#[derive(Debug, PartialEq)]
struct Sight {
    runs: Vec<RunSeen>,
    steps: Vec<Vec<String>>,
    signals: Vec<String>,
    claim_ends: Vec<String>,
}

async fn see(world: &dyn RunWorld) -> Sight {
    let now = world.now().await;
    let mut sight = Sight {
        runs: world.runs().await,
        steps: Vec::new(),
        signals: Vec::new(),
        claim_ends: Vec::new(),
    };
    for seen in &sight.runs {
        let steps = world.steps(seen.run).await;
        sight.steps.push(steps.iter().map(|step| say_step(step, now)).collect());
        sight.signals.push(format!("{:?}", world.signals(seen.run).await));
        let mut ends = world.claim_ends(seen.run).await;
        // Whether it was paused when it was set aside is in the audit's line before.
        let set_aside = ends.iter_mut().filter(|end| end.to == "quarantined");
        set_aside.for_each(|end| end.from.clear());
        sight.claim_ends.push(format!("{ends:?}"));
    }
    sight
}

/// The end of a step that counts.
pub type FirstResult = (StepStatus, Option<Vec<u8>>);

/// What must hold over time, told from the outside: nothing of it is asked of the store's own books.
#[derive(Default)]
struct Promises {
    results: HashMap<(RunId, String), FirstResult>,
    taken: HashMap<(RunId, i64), String>,
    counts: HashMap<RunId, (i64, i64)>,
    /// How many wake-ups a run had seen when it last waited.
    waits: HashMap<RunId, i64>,
}

impl Promises {
    fn heard(&mut self, step: &Step, told: &Told, made: &Made) {
        if let Step::Select(settled, lost) = step
            && told.words == "Done"
        {
            let is_lost = |path: &String| lost.iter().any(|prefix| path.starts_with(prefix));
            self.taken
                .retain(|(run, _), path| *run != settled.claim.run || !is_lost(path));
        }
        if let Step::Continue(next) = step
            && told.let_go == [LetGo::Done]
        {
            self.waits.remove(&next.claim.run);
        }
        let Step::LetGo(group) = step else { return };
        let done = group
            .iter()
            .zip(&told.let_go)
            .filter(|(_, answer)| **answer == LetGo::Done);
        for ((claim, act, _), _) in done {
            self.waits.remove(&claim.run);
            if let Some(behind) = act.behind() {
                let seen = made.wake_seq(claim.run) - i64::from(behind);
                self.waits.insert(claim.run, seen);
            }
        }
    }

    async fn check(&mut self, world: &dyn RunWorld) {
        for seen in world.runs().await {
            self.check_results(world, seen.run).await;
            let counts = (seen.token, seen.wake_seq);
            let before = self.counts.insert(seen.run, counts).unwrap_or_default();
            assert!(
                before.0 <= counts.0 && before.1 <= counts.1,
                "counts go back: {before:?}, {seen:?}"
            );
            self.check_awake(&seen);
        }
    }

    /// The first durable result of a path stays, and a signal stays taken by whoever took it.
    async fn check_results(&mut self, world: &dyn RunWorld, run: RunId) {
        for step in world
            .steps(run)
            .await
            .into_iter()
            .filter(|step| step.status != StepStatus::Open)
        {
            let result = (step.status, step.result);
            let first = self.results.entry((run, step.path)).or_insert_with(|| result.clone());
            assert_eq!(*first, result, "a result was replaced");
        }
        let recorded: BTreeMap<_, _> = world
            .steps(run)
            .await
            .into_iter()
            .map(|step| (step.path.clone(), step))
            .collect();
        for (_, path) in self.results.keys().filter(|(of, _)| *of == run) {
            assert!(
                recorded.get(path).is_some_and(|step| step.status != StepStatus::Open),
                "{path} is gone"
            );
        }
        for signal in world.signals(run).await {
            let Some(path) = signal.consumed_by else {
                assert!(!self.taken.contains_key(&(run, signal.seq)), "a signal was given back");
                continue;
            };
            let first = self.taken.entry((run, signal.seq)).or_insert_with(|| path.clone());
            assert_eq!(*first, path, "a signal was taken twice");
        }
    }

    /// Who was woken since it began to wait is awake, and nobody is forgotten.
    fn check_awake(&self, seen: &RunSeen) {
        if seen.claim.is_some() || seen.stopping.is_some() {
            return;
        }
        let waited = self.waits.get(&seen.run);
        match (seen.status.as_str(), waited) {
            ("suspended" | "running", Some(at)) if seen.wake_seq > *at => assert_eq!(seen.wake, Wake::Due, "{seen:?}"),
            ("queued", _) => assert_ne!(seen.wake, Wake::Never, "{seen:?}"),
            _ => {}
        }
    }
}

/// Does all of it in memory and in another world; answers what was done, and what came of it.
async fn check(ops: &[Op], other: &dyn RunWorld) -> Vec<String> {
    let memory = MemoryWorld::new(LEASE);
    let mut story = Vec::new();
    let (mut made, mut promises) = (Made::default(), Promises::default());
    let mut reference = Reference::default();
    for (at, op) in ops.iter().enumerate() {
        let Some(step) = prepare(op, &mut made) else { continue };
        let expected = take(&memory, &step, &made).await;
        let told = take(other, &step, &made).await;
        assert_eq!(told, expected, "step {at}: {step:?}");
        promises.heard(&step, &told, &made);
        let (expected, sight) = (see(&memory).await, see(other).await);
        assert_eq!(sight, expected, "after step {at}: {step:?}");
        reference.follow(&step, &told, &made, &sight.runs);
        reference.check(other, &sight.runs).await;
        made.tied |= told.made_ready.max(story::made_ready(&step, &made.before, &sight.runs)) > 1;
        made.heard(&step, &told.let_go, &sight.runs);
        story.push(format!("{step:?} {told:?}"));
        made.claims.extend(told.claims);
        promises.check(other).await;
        made.before = sight.runs;
        made.forget_ties();
    }
    check_runs(other).await;
    check_runs(&memory).await;
    story
}

#[test]
fn postgres_answers_as_memory_does() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let asked = std::env::var("PROPTEST_CASES").ok().map(|cases| cases.parse().unwrap());
    let config = Config {
        cases: asked.unwrap_or(CASES),
        max_shrink_iters: 400,
        failure_persistence: None,
        ..seeded(lockgate_tests::seed())
    };
    let ran = TestRunner::new(config).run(&vec(op(), 1..MOST_OPS), |ops| {
        runtime.block_on(async {
            let postgres = PostgresWorld::direct(LEASE).await;
            check(&ops, &postgres).await;
        });
        Ok(())
    });
    ran.unwrap_or_else(|failure| panic!("{failure}"));
}

fn seeded(seed: u64) -> Config {
    Config {
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    }
}

/// What failed with a seed can be told again: nothing in it is of the hour.
#[tokio::test]
async fn the_same_seed_is_the_same_story() {
    let tell = async |seed| {
        let mut runner = TestRunner::new(seeded(seed));
        let mut told = Vec::new();
        for _ in 0..CASES {
            let ops = vec(op(), 1..MOST_OPS).new_tree(&mut runner).unwrap().current();
            told.extend(check(&ops, &MemoryWorld::new(LEASE)).await);
        }
        told
    };
    let told = tell(7).await;
    assert!(told.len() > 100, "{} steps", told.len());
    assert_eq!(told, tell(7).await);
    assert_ne!(told, tell(8).await);
}
