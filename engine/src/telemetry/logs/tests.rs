#![allow(clippy::unwrap_used)]
use std::io;
use std::sync::{Arc, Mutex};

use tracing_subscriber::layer::SubscriberExt as _;

use super::*;
use crate::telemetry::TraceContext;

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Kept {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn as_json(tell: impl FnOnce()) -> Vec<Value> {
    let (kept, writer) = (Kept::default(), Kept::default());
    let to = kept.clone();
    drop(writer);
    let layer = lines::layer().fmt_fields(JsonFields::new()).event_format(Json);
    let subscriber = tracing_subscriber::registry().with(layer.with_writer(move || to.clone()));
    tracing::subscriber::with_default(subscriber, tell);
    kept.text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_line_of_json_has_what_was_said_its_scope_and_its_trace() {
    let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let lines = as_json(|| {
        let scope = tracing::info_span!("run", run = "r1", workflow = "w");
        let _within = scope.enter();
        let _attached = TraceContext::parse(given).unwrap().attachable().attach();
        tracing::warn!(name: "lease_lost", run = "r2", token = 7, share = 0.5, sure = true, why = ?Some("x"), "a lease\nwas lost");
        tracing::debug!("no name");
    });
    let line = lines[0].as_object().unwrap();
    for (name, value) in [
        ("level", Value::from("WARN")),
        ("event", "lease_lost".into()),
        ("msg", "a lease was lost".into()),
        ("run", "r2".into()),
        ("workflow", "w".into()),
        ("token", 7.into()),
        ("share", 0.5.into()),
        ("sure", true.into()),
        ("why", "Some(\"x\")".into()),
        ("trace_id", given[3..35].into()),
        ("span_id", given[36..52].into()),
    ] {
        assert_eq!(line.get(name), Some(&value), "{name}");
    }
    assert!(lines[1].get("event").is_none() && lines[1].get("trace_id").is_some());
}

#[test]
fn lines_for_people_are_one_an_event_too() {
    let kept = Kept::default();
    let to = kept.clone();
    let layer = lines::layer().with_ansi(false).event_format(Human::new(false));
    let subscriber = tracing_subscriber::registry().with(layer.with_writer(move || to.clone()));
    tracing::subscriber::with_default(subscriber, || {
        tracing::error!(name: "run_failed", reason = "first\nsecond", "a run\r\nfailed");
        let _attached = TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
            .unwrap()
            .attachable()
            .attach();
        tracing::info!("within");
    });
    let text = kept.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].contains("ERROR") && lines[0].contains("ERROR run_failed "),
        "{text}"
    );
    assert!(lines[1].ends_with("within trace_id=0af7651916cd43dd8448eb211c80319c"));
}

#[test]
fn long_texts_are_cut_between_characters() {
    assert_eq!(brief("kurz", 10), "kurz");
    assert_eq!(brief("äöüäöü\n", 6), "äöüäöü…");
    assert_eq!(brief("a\tb", 3), "a b");
    assert_eq!(brief("abc", 3), "abc");
}
