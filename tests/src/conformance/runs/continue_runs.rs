//! Runs that go on as others.

use lockgate::inspect::NotRepeated;
use lockgate::lifecycle::{Act, ChildEnd, Continuation, LetGo, RepeatRun, RunClaim, RunStore, Signalled, derived_id};
use lockgate::memory::RunStart;
use serde_json::json;

use super::crew::*;
use super::start_children::{child, nobody, with_children};
use super::world::{RunWorld, Wake};

pub(super) fn continuation(claim: RunClaim, seen: i64) -> Continuation {
    Continuation {
        claim,
        next: derived_id(claim.run, "continued"),
        params: br#"{ "round" : 2 }"#.to_vec(),
        seen,
        had_batches: false,
        attributes: None,
    }
}

pub(super) async fn go_on(store: &dyn RunStore, run: Continuation) -> LetGo {
    store.continue_runs(&[run]).await.unwrap()[0]
}

pub(super) async fn a_run_goes_on_as_another_in_one_commit(world: &dyn RunWorld) {
    let store = world.replica();
    let mut first = RunStart::new(WORKFLOW);
    (first.queue, first.priority) = (Some("bulk".to_owned()), 3);
    first.request.singleton_key = Some("one".to_owned());
    let run = world.start(first.clone()).await.unwrap();
    let bulk = || page_of(&[("bulk", 10)], (1, 1));
    let (claim, _) = store.claim_runs(&bulk()).await.unwrap().remove(0);
    let next = derived_id(run, "continued");
    let with_attributes = Continuation {
        attributes: json!({"round": 2}).as_object().cloned(),
        ..continuation(claim, 0)
    };
    assert_eq!(go_on(&*store, with_attributes).await, LetGo::Done);
    for run in [run, next] {
        let attributes = seen(world, run).await.attributes;
        assert_eq!(serde_json::Value::Object(attributes), json!({"round": 2}));
    }
    let over = seen(world, run).await;
    assert_eq!(
        (over.status.as_str(), over.wake, over.claim),
        ("completed", Wake::Never, None)
    );
    let reason = world.claim_ends(run).await.remove(0).reason;
    assert_eq!(reason, Some(format!("continued as {next}")));
    // Nobody else may start under its key.
    first.request.id = uuid::Uuid::now_v7();
    assert_eq!(world.start(first).await, None);
    let (claim, work) = store.claim_runs(&bulk()).await.unwrap().remove(0);
    assert_eq!((claim.run, claim.token, work.origin_id), (next, 1, next));
    assert_eq!(
        (text(work.params), work.queue.as_str()),
        (r#"{ "round" : 2 }"#.to_owned(), "bulk")
    );
    assert!(work.steps.is_empty());
}

pub(super) async fn asked_again_or_by_a_zombie_a_run_does_not_go_on(world: &dyn RunWorld) {
    let store = world.replica();
    let (zombie, other) = (
        start_and_claim(world, &*store).await,
        start_and_claim(world, &*store).await,
    );
    let successor = take_over(world, &*store, &zombie).await;
    let page = [continuation(zombie, 0), continuation(other, 0)];
    assert_eq!(store.continue_runs(&page).await.unwrap(), [LetGo::Lost, LetGo::Done]);
    assert_eq!(store.continue_runs(&page).await.unwrap(), [LetGo::Lost; 2]);
    assert_eq!(
        (world.runs().await.len(), seen(world, zombie.run).await.claim),
        (3, Some(successor))
    );
}

pub(super) async fn signals_that_no_step_took_pass_on(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    send(&*store, keyed(claim.run, "a")).await;
    send(&*store, signal(claim.run, json!(2))).await;
    let mut taking = step(claim, "0:paid", r#"{"key":"a"}"#);
    taking.kind = lockgate::lifecycle::Kind::Signal;
    taking.signal_seq = Some(1);
    save(&*store, taking).await;
    assert!(
        matches!(go_on(&*store, continuation(claim, 1)).await, LetGo::Held(_)),
        "it has not seen the second"
    );
    assert_eq!(go_on(&*store, continuation(claim, 2)).await, LetGo::Done);
    assert_eq!(world.signals(claim.run).await.len(), 1);
    let next = derived_id(claim.run, "continued");
    // What is sent to it now reaches the one that goes on.
    assert_eq!(store.signal_run(&keyed(claim.run, "b")).await.unwrap(), Signalled::Sent);
    assert_eq!(
        store.signal_run(&keyed(claim.run, "a")).await.unwrap(),
        Signalled::Known
    );
    assert_eq!(
        store.signal_run(&keyed(claim.run, "b")).await.unwrap(),
        Signalled::Known
    );
    let (claim, work) = super::crew::claim(&*store).await;
    assert_eq!(claim.run, next);
    let told: Vec<_> = work.signals.into_iter().map(|signal| text(signal.payload)).collect();
    assert_eq!(told.len(), 2);
    assert_eq!(told[0], "2");
}

pub(super) async fn what_is_stopped_or_has_unfinished_batches_does_not_go_on(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    world.set_batches(claim.run, 1, 0).await;
    let with_batches = Continuation {
        had_batches: true,
        ..continuation(claim, 0)
    };
    assert!(matches!(go_on(&*store, with_batches).await, LetGo::Held(_)));
    world.set_batches(claim.run, 0, 0).await;
    assert_eq!(world.cancel(claim.run).await, "stopping");
    assert!(matches!(go_on(&*store, continuation(claim, 0)).await, LetGo::Held(_)));
    assert_eq!(world.runs().await.len(), 1);
}

pub(super) async fn to_cancel_a_run_is_to_cancel_the_one_that_goes_on(world: &dyn RunWorld) {
    let store = world.replica();
    let first = start_and_claim(world, &*store).await;
    assert_eq!(go_on(&*store, continuation(first, 0)).await, LetGo::Done);
    let (second, _) = claim(&*store).await;
    assert_eq!(go_on(&*store, continuation(second, 1)).await, LetGo::Done);
    assert_eq!(world.cancel(first.run).await, "cancelled");
    assert_eq!(
        seen(world, derived_id(second.run, "continued")).await.status,
        "cancelled"
    );
    assert_eq!(claimed(&*store, &page(10)).await, NONE);
}

pub(super) async fn to_pause_or_resume_a_run_is_to_do_so_to_the_one_that_goes_on(world: &dyn RunWorld) {
    let store = world.replica();
    let first = start_and_claim(world, &*store).await;
    assert_eq!(go_on(&*store, continuation(first, 0)).await, LetGo::Done);
    let next = derived_id(first.run, "continued");
    assert_eq!(world.pause(first.run).await, "paused");
    assert_eq!(seen(world, next).await.status, "paused");
    assert_eq!(claimed(&*store, &page(10)).await, NONE);
    assert_eq!(world.resume(first.run).await, "queued");
    let (second, _) = claim(&*store).await;
    assert_eq!(second.run, next);
    assert_eq!(let_go(&*store, complete(second)).await, LetGo::Done);
    for answer in [world.pause(first.run).await, world.resume(first.run).await] {
        assert_eq!(answer, "completed");
    }
}

/// What it is asked about is what it is told about, whichever of them is meant.
pub(super) async fn to_repeat_a_run_is_to_repeat_the_last_but_for_its_own_steps(world: &dyn RunWorld) {
    let store = world.replica();
    let first = start_and_claim(world, &*store).await;
    save(&*store, step(first, "0:add", "1")).await;
    save(&*store, step(first, "1:first", "1")).await;
    assert_eq!(go_on(&*store, continuation(first, 0)).await, LetGo::Done);
    let run = first.run;
    let not_over = Err(NotRepeated::NotOver(run, "queued".to_owned()));
    assert_eq!(world.repeat(&RepeatRun::retry(run)).await, not_over);
    let (last, _) = claim(&*store).await;
    for path in ["0:sum", "1:send", "2:last"] {
        save(&*store, step(last, path, "1")).await;
    }
    let act = Act::Fail {
        reason: "no paper".to_owned(),
    };
    assert_eq!(let_go(&*store, ending(last, act)).await, LetGo::Done);
    let from = |step: &str| RepeatRun {
        from: Some(step.to_owned()),
        ..RepeatRun::fork(run)
    };
    let paths = async |repeat: RepeatRun| {
        let again = world.repeat(&repeat).await.unwrap();
        let steps = world.steps(again).await.into_iter().map(|step| step.path);
        steps.collect::<Vec<_>>()
    };
    assert_eq!(paths(RepeatRun::retry(run)).await, ["0:sum", "1:send", "2:last"]);
    assert_eq!(paths(from("send")).await, ["0:sum"]);
    assert_eq!(paths(from("first")).await, ["0:add"]);
    // The input is that of the run that is meant.
    let input = async |repeat: RepeatRun| {
        let again = world.repeat(&repeat).await.unwrap();
        let work = store.claim_runs(&page(10)).await.unwrap();
        let work = work.into_iter().find(|(claim, _)| claim.run == again);
        text(work.unwrap().1.params)
    };
    assert_eq!(input(RepeatRun::fork(run)).await, r#"{ "round" : 2 }"#);
    assert_ne!(input(from("0:add")).await, r#"{ "round" : 2 }"#);
    let no_step = NotRepeated::NoStep {
        run,
        step: "nothing".to_owned(),
    };
    assert_eq!(world.repeat(&from("nothing")).await, Err(no_step));
}

pub(super) async fn a_child_that_went_on_ends_when_its_successor_does(world: &dyn RunWorld) {
    let store = world.replica();
    let parent = with_children(world, &*store, &[child(nobody(), "0:one")]).await;
    let (first, _) = claim(&*store).await;
    assert_eq!(go_on(&*store, continuation(first, 0)).await, LetGo::Done);
    let path = ["0:one".to_owned()];
    assert_eq!(store.ended_children(parent.run, &path).await.unwrap(), []);
    let (second, work) = claim(&*store).await;
    assert_eq!((work.parent_id, work.depth), (Some(parent.run), 1));
    assert_eq!(let_go(&*store, complete(second)).await, LetGo::Done);
    let ended = store.ended_children(parent.run, &path).await.unwrap();
    assert_eq!(ended[0].run, Some(second.run));
    assert_eq!(ended[0].end, ChildEnd::Completed(b"{\"ok\":true}".to_vec()));
}

pub(super) async fn who_waits_for_a_run_waits_for_the_one_that_goes_on(world: &dyn RunWorld) {
    let store = world.replica();
    let first = start_and_claim(world, &*store).await;
    let after = RunStart {
        after_run: Some(first.run),
        ..RunStart::new(WORKFLOW)
    };
    let after = world.start(after).await.unwrap();
    assert_eq!(go_on(&*store, continuation(first, 0)).await, LetGo::Done);
    let (second, _) = claim(&*store).await;
    assert_eq!(second.run, derived_id(first.run, "continued"));
    assert_eq!(claimed(&*store, &page(10)).await, NONE);
    assert_eq!(let_go(&*store, complete(second)).await, LetGo::Done);
    assert_eq!(claimed(&*store, &page(10)).await, [after]);
}

/// A deadline is that of all that go on for one another; what is done again has as long as they had.
pub(super) async fn a_retry_of_a_run_that_went_on_has_its_whole_time(world: &dyn RunWorld) {
    let store = world.replica();
    let mut first = RunStart::new(WORKFLOW);
    first.request.deadline = Some(4 * HOUR);
    world.start(first).await.unwrap();
    let (first, _) = claim(&*store).await;
    assert_eq!(go_on(&*store, continuation(first, 0)).await, LetGo::Done);
    world.advance(3 * HOUR).await;
    let (last, _) = claim(&*store).await;
    let act = Act::Fail {
        reason: "no paper".to_owned(),
    };
    assert_eq!(let_go(&*store, ending(last, act)).await, LetGo::Done);
    let again = world.repeat(&RepeatRun::retry(last.run)).await.unwrap();
    world.advance(3 * HOUR).await;
    world.sweep().await;
    assert_eq!(status(world, again).await, is("queued", Wake::Due));
    world.advance(2 * HOUR).await;
    world.sweep().await;
    assert_eq!(status(world, again).await, is("failed", Wake::Never));
}
