//! A test repeated with a crash at each thing that is durably written.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;

use super::crashes::{Crashes, Point, Side, Wish};
use super::engine::TestEngine;
use super::facts::unseen;
use crate::lifecycle::RunId;

/// Runs a test once without a crash, and then once for each thing that the first pass durably wrote with a crash before
/// it, and once with a crash after it, each on an engine of its own. Answers how many crashes that were.
///
/// # Panics
/// The test fails, at the crash that the text names.
pub async fn every_crash<F, Fut>(test: F) -> u32
where
    F: Fn(TestEngine) -> Fut,
    Fut: Future<Output = ()>,
{
    let first = Arc::new(Crashes::default());
    let engine = TestEngine::with_crashes(first.clone());
    let store = engine.world.store.clone();
    test(engine).await;
    let points = first.points();
    assert!(!points.is_empty(), "the test wrote nothing: it has to start a run");
    let unseen = unseen(&store, &points);
    assert!(
        unseen.is_empty(),
        "durable, and no crash was tried there: {}",
        unseen.join(", ")
    );
    let names = names(&points);
    let mut crashed = 0;
    for (at, point) in points.iter().enumerate() {
        let sides = [Side::Before, Side::After].into_iter();
        for side in sides.filter(|side| *side == Side::After || !point.write.is_claim()) {
            let crashes = Arc::new(Crashes::default());
            crashes.wish(Wish::At(side, point.clone()));
            let pass = AssertUnwindSafe(test(TestEngine::with_crashes(crashes.clone())));
            if let Err(panicked) = pass.catch_unwind().await {
                let text = panic_text(&*panicked);
                let (write, count) = (&names[at], points.len());
                panic!("with a crash {side} write {} of {count}, the {write}: {text}", at + 1);
            }
            let (write, count) = (&names[at], points.len());
            assert!(
                crashes.count() > 0,
                "write {} of {count}, the {write}, did not come again: the test does not do the same in each pass",
                at + 1
            );
            crashed += crashes.count();
        }
    }
    crashed
}

/// What the writes are called: runs by number, in order of their first write.
fn names(points: &[Point]) -> Vec<String> {
    let mut numbers: HashMap<RunId, usize> = HashMap::new();
    let mut name = |point: &Point| {
        let next = numbers.len() + 1;
        let number = *numbers.entry(point.write.run).or_insert(next);
        let again = if point.time > 1 {
            format!(" (time {})", point.time)
        } else {
            String::new()
        };
        format!("{} of run {number}{again}", point.write.what)
    };
    points.iter().map(&mut name).collect()
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
