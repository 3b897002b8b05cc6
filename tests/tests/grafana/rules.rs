//! Alert rules: each leads to the runbook, both sources agree, and promtool takes them where it can be had.

use std::collections::BTreeSet;
use std::process::Command;

use lockgate::telemetry::catalogue::EVENTS;
use lockgate_tests::grafana::alert::RUNBOOK;
use lockgate_tests::grafana::panel::Source;
use lockgate_tests::grafana::{alerts, root, rules};
use lockgate_tests::skipped;

#[test]
fn every_alert_has_a_name_a_row_and_a_way_there() {
    let runbook = std::fs::read_to_string(root().join("ops/runbook.md")).unwrap();
    let (prometheus, grafana) = (rules::prometheus(RUNBOOK), rules::grafana(RUNBOOK));
    let mut names = BTreeSet::new();
    let mut uids = BTreeSet::new();
    for alert in alerts::all() {
        assert!(names.insert(alert.anchor()), "{} is there twice", alert.name);
        for source in [Source::Prometheus, Source::Postgres] {
            let uid = rules::rule_uid(alert, source);
            assert!(uid.len() <= 40 && uids.insert(uid.clone()), "{uid}");
        }
        let link = format!("{RUNBOOK}#{}", alert.anchor());
        assert_eq!(runbook.matches(&format!("<a id=\"{}\">", alert.anchor())).count(), 1);
        assert_eq!(prometheus.matches(&link).count(), 1, "{}", alert.name);
        assert_eq!(
            grafana.matches(&link).count(),
            1 + usize::from(alert.sql.is_some()),
            "{}",
            alert.name
        );
        for text in [alert.summary, alert.meaning, alert.query, alert.action] {
            assert!(!text.is_empty(), "{}", alert.name);
            assert!(!text.contains('$'), "{}: Grafana would fill it in: {text}", alert.name);
        }
    }
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Its commands are looked at with those of all documents, in `tidy`.
#[test]
fn the_runbook_names_events_and_keys_that_there_are() {
    let keys = lockgate::config::reference();
    let (mut events, mut settings) = (0, 0);
    for alert in alerts::all() {
        for words in [alert.meaning, alert.action].into_iter().flat_map(quoted) {
            if [alert.meaning, alert.action]
                .iter()
                .any(|text| text.contains(&format!("log event `{words}`")))
            {
                assert!(
                    EVENTS.iter().any(|event| event.name == words),
                    "{}: {words}",
                    alert.name
                );
                events += 1;
            } else if words.contains('.') && !words.contains([' ', '<', '/']) {
                // `direct.*` is all of a section; the reference has each key between backticks.
                let key = words.trim_end_matches('*');
                assert!(keys.contains(&format!("`{key}")), "{}: {words}", alert.name);
                settings += 1;
            }
        }
    }
    assert!(events >= 3 && settings >= 4, "{events} events, {settings} keys");
}

#[test]
fn alerts_send_to_alerts_that_there_are() {
    let names: BTreeSet<&str> = alerts::all().map(|alert| alert.name).collect();
    let mut sent = 0;
    for alert in alerts::all() {
        let texts = [alert.meaning, alert.action];
        let words = texts
            .iter()
            .flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric()));
        for word in words {
            if word.starts_with("Lockgate") && word != "Lockgate" {
                assert!(names.contains(word), "{} sends to {word}", alert.name);
                sent += 1;
            }
        }
    }
    assert!(sent >= 10, "{sent} are named");
}

#[test]
fn the_troubles_that_must_be_told_have_their_alert() {
    let names: Vec<&str> = alerts::all().map(|alert| alert.name).collect();
    for name in [
        "NoLeader",
        "LeaseOverdue",
        "OldestUndelivered",
        "StuckRun",
        "MissedSlot",
        "BreakerOpen",
        "DeadLetters",
        "InboxDead",
        "ClockSkew",
        "OldSnapshot",
    ] {
        let alert = alerts::all().find(|alert| alert.name == format!("Lockgate{name}"));
        assert!(alert.is_some_and(|alert| alert.sql.is_some()), "{name} of {names:?}");
    }
}

#[test]
fn promtool_takes_the_rules_and_their_cases() {
    let Ok(promtool) = std::env::var("LOCKGATE_PROMTOOL").or_else(|_| on_path("promtool")) else {
        skipped("there is no promtool on PATH; `make test-telemetry` builds one");
        return;
    };
    let run = |arguments: &[&str]| {
        let output = Command::new(&promtool)
            .args(arguments)
            .current_dir(root().join("ops/prometheus"))
            .output()
            .unwrap();
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.status.success(), "promtool {arguments:?}: {said}");
    };
    run(&["check", "rules", "rules/lockgate.yaml"]);
    run(&["test", "rules", "tests/lockgate.yaml"]);
}

fn on_path(program: &str) -> Result<String, std::env::VarError> {
    let path = std::env::var("PATH")?;
    let found = path
        .split(':')
        .map(|folder| format!("{folder}/{program}"))
        .find(|file| std::path::Path::new(file).is_file());
    found.ok_or(std::env::VarError::NotPresent)
}
