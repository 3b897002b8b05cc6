//! What Grafana needs of a dashboard, and what people need of a panel. Each check is a function, so that it can be handed a
//! bad dashboard and be seen to complain.

use std::collections::BTreeSet;

use lockgate_tests::grafana::dashboard::{DASHBOARDS, SOURCES, uid};
use lockgate_tests::grafana::panel::Source;
use serde_json::{Value, json};

/// Units that Grafana knows and these dashboards use.
const UNITS: [&str; 4] = ["none", "s", "ops", "bytes"];
/// Words of titles, and what a query then has: one of these.
const PROMISES: [(&str, &[&str]); 9] = [
    ("Duration", &["duration", "age_s"]),
    ("Pick-up", &["pickup", "started_at"]),
    ("Oldest ready", &["oldest_ready"]),
    ("retries", &["retries"]),
    ("hand-backs", &["hand_backs"]),
    ("recovered", &["recovered"]),
    ("client queue", &["kafka_queue"]),
    ("reason", &["reason", "error_type"]),
    ("why", &["why", "reason"]),
];
/// Variables that Grafana brings.
const BUILT_IN: [&str; 8] = [
    "__all",
    "__rate_interval",
    "__interval",
    "__range",
    "__timeFilter",
    "__timeFrom",
    "__timeTo",
    "__value",
];

fn boards() -> impl Iterator<Item = (String, Value, Source)> {
    let all = DASHBOARDS
        .iter()
        .flat_map(|board| SOURCES.map(|source| (board, source)));
    all.map(|(board, source)| (uid(board.name, source), board.json(source), source))
}

fn panels(board: &Value) -> &[Value] {
    board["panels"].as_array().unwrap()
}

/// All that is wrong with a dashboard.
fn faults(board: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut ids = BTreeSet::new();
    for panel in panels(board) {
        let title = panel["title"].as_str().unwrap_or_default();
        let mut fault = |what: &str| faults.push(format!("{title}: {what}"));
        if !ids.insert(panel["id"].as_u64()) {
            fault("its id is another's too");
        }
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str();
        if panel["type"] != "table" && !unit.is_some_and(|unit| UNITS.contains(&unit)) {
            fault("it has no unit");
        }
        if panel["type"] == "table" && unit.is_some() {
            fault("its unit is that of everything in its rows, texts of digits too");
        }
        // Prometheus answers each query with a table of its own, of which one is shown.
        if panel["type"] == "table" && panel["targets"].as_array().is_some_and(|targets| targets.len() > 1) {
            fault("it shows the first of its tables");
        }
        let about = panel["description"].as_str().unwrap_or_default();
        if title.is_empty() || !about.ends_with('.') {
            fault("it has no title, or no sentence about it");
        }
        if panel["targets"].as_array().is_none_or(Vec::is_empty) {
            fault("it asks nothing");
        }
        for target in panel["targets"].as_array().into_iter().flatten() {
            let legend =
                target["expr"].is_null() || target["legendFormat"].as_str().is_some_and(|legend| !legend.is_empty());
            if !legend {
                fault("a line of it has no name");
            }
            if [&panel["datasource"]["uid"], &target["datasource"]["uid"]] != ["${ds}", "${ds}"] {
                fault("it names a data source of its own");
            }
        }
    }
    faults.extend(overlaps(board));
    faults.extend(undefined(board));
    faults
}

/// Panels that lie on one another or beyond the edge.
fn overlaps(board: &Value) -> Vec<String> {
    let place = |panel: &Value| ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
    let mut faults = Vec::new();
    for (at, one) in panels(board).iter().enumerate() {
        let [x, y, w, h] = place(one);
        if x + w > 24 || w == 0 || h == 0 {
            faults.push(format!("{}: it does not fit", one["title"]));
        }
        for other in &panels(board)[at + 1..] {
            let [x2, y2, w2, h2] = place(other);
            if x < x2 + w2 && x2 < x + w && y < y2 + h2 && y2 < y + h {
                faults.push(format!("{} lies on {}", one["title"], other["title"]));
            }
        }
    }
    faults
}

/// Variables that are used and not defined, or defined and not used.
fn undefined(board: &Value) -> Vec<String> {
    let list = board["templating"]["list"].as_array().unwrap();
    let defined: BTreeSet<&str> = list.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    let text = format!("{}{}", board["panels"], board["templating"]);
    let used = variables(&text);
    let unknown = used
        .iter()
        .filter(|name| !defined.contains(name.as_str()) && !BUILT_IN.contains(&name.as_str()));
    let unused = defined.iter().filter(|name| !used.contains(**name));
    let unknown = unknown.map(|name| format!("${name} is not defined"));
    unknown
        .chain(unused.map(|name| format!("${name} is not used")))
        .collect()
}

/// Names behind `$` and in `${…}`.
fn variables(text: &str) -> BTreeSet<String> {
    let parts = text.split('$').skip(1);
    let named = parts.map(|part| {
        let part = part.strip_prefix('{').unwrap_or(part);
        part.chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect::<String>()
    });
    named.filter(|name| !name.is_empty()).collect()
}

#[test]
fn dashboards_have_all_that_grafana_and_people_need() {
    let mut uids = BTreeSet::new();
    for (uid, board, source) in boards() {
        assert_eq!(board["uid"], uid);
        assert!(uid.len() <= 40 && uids.insert(uid.clone()), "{uid}");
        assert_eq!(faults(&board), [""; 0], "{uid}");
        let ds = &board["templating"]["list"][0];
        assert_eq!(
            (&ds["name"], &ds["current"]["value"]),
            (&json!("ds"), &json!(source.uid()))
        );
        assert!(panels(&board).len() >= 8, "{uid}");
    }
    assert_eq!(uids.len(), 8);
}

/// Words of a panel's title that none of its queries keeps.
fn promised_in_vain(panel: &Value) -> Vec<&'static str> {
    let title = panel["title"].as_str().unwrap();
    let asked = panel["targets"].to_string();
    let promised = PROMISES.iter().filter(|(word, _)| title.contains(*word));
    promised
        .filter(|(_, kept)| !kept.iter().any(|part| asked.contains(*part)))
        .map(|(word, _)| *word)
        .collect()
}

#[test]
fn titles_say_what_is_shown_and_tell_panels_apart() {
    for (uid, board, _) in boards() {
        let mut titles = BTreeSet::new();
        for panel in panels(&board) {
            let title = panel["title"].as_str().unwrap();
            assert!(titles.insert(title), "{uid}: two are called {title}");
            assert_eq!(promised_in_vain(panel), [""; 0], "{uid}: {title}");
        }
    }
    let panel = |asked: &str| json!({"title": "Steps and retries", "targets": [{"rawSql": asked}]});
    assert_eq!(promised_in_vain(&panel("select steps")), ["retries"]);
    assert_eq!(promised_in_vain(&panel("select steps, retries")), [""; 0]);
}

#[test]
fn what_only_the_views_know_has_words_of_its_own() {
    for panel in DASHBOARDS.iter().flat_map(|board| board.panels) {
        let Some((title, _)) = panel.from_views else { continue };
        assert!(SOURCES.iter().all(|source| !panel.of(*source).1.is_empty()), "{title}");
        assert_ne!(title, panel.title);
    }
    let shown = |title: &str, wanted: Source| {
        let of_source = boards().filter(|(.., source)| *source == wanted);
        let mut panels = of_source.flat_map(|(_, board, _)| panels(&board).to_vec());
        panels.any(|panel| panel["title"] == title)
    };
    for (title, source) in [
        ("Leases lost", Source::Postgres),
        ("Leases lost, things recovered", Source::Prometheus),
    ] {
        assert_eq!(SOURCES.map(|any| shown(title, any)), SOURCES.map(|any| any == source));
    }
}

#[test]
fn links_lead_to_dashboards_that_are_there() {
    let uids: BTreeSet<String> = boards().map(|(uid, ..)| uid).collect();
    for (uid, board, _) in boards() {
        let text = board.to_string();
        let led: Vec<&str> = text
            .split("/d/")
            .skip(1)
            .map(|rest| rest.split(['"', '?']).next().unwrap())
            .collect();
        assert!(led.len() >= 4, "{uid}");
        assert!(led.iter().all(|to| uids.contains(*to)), "{uid}: {led:?}");
    }
}

#[test]
fn every_alert_that_has_a_panel_is_red_where_it_fires() {
    use lockgate_tests::grafana::{alert::Alert, alert::Fires, alerts};
    let red: Vec<(&str, f64)> = DASHBOARDS
        .iter()
        .flat_map(|board| board.panels)
        .flat_map(|panel| {
            panel
                .red
                .iter()
                .flat_map(|red| panel.prometheus.1.iter().map(|query| (query.text, *red)))
        })
        .collect();
    let mut held = 0;
    for (query, red) in red {
        let bare = query.replace("{J}", "").replace("{J,", "{");
        // A dashboard has chosen its job, a rule tells of each.
        let of_rule = |alert: &Alert| alert.expr.replace(" by (job) (", "(").replace("by (job, ", "by (");
        for alert in alerts::all().filter(|alert| of_rule(alert) == bare) {
            let Fires::Above(threshold) = alert.fires else { continue };
            // Those of counts fire above 0 and are red from 1.
            assert!(
                red == threshold || (threshold < red && red <= threshold + 1.0),
                "{}: red from {red}",
                alert.name
            );
            held += 1;
        }
    }
    assert!(held >= 8, "{held} panels were compared with an alert");
}

#[test]
fn a_bad_dashboard_is_complained_about() {
    let panel = |id: u64, x: u64| {
        json!({
            "id": id, "title": "A", "description": "About it.", "gridPos": {"x": x, "y": 0, "w": 12, "h": 8},
            "datasource": {"uid": "${ds}"}, "fieldConfig": {"defaults": {"unit": "s"}},
            "targets": [{"expr": "up", "legendFormat": "up", "datasource": {"uid": "${ds}"}}],
        })
    };
    let board = |panels: Vec<Value>| json!({"panels": panels, "templating": {"list": [{"name": "ds"}]}});
    assert_eq!(faults(&board(vec![panel(1, 0), panel(2, 12)])), [""; 0]);
    let with = |pointer: &str, value: Value| {
        let mut bad = panel(2, 12);
        *bad.pointer_mut(pointer).unwrap() = value;
        faults(&board(vec![panel(1, 0), bad])).join("; ")
    };
    assert_eq!(with("/id", json!(1)), "A: its id is another's too");
    assert_eq!(
        with("/fieldConfig/defaults/unit", json!("lengths")),
        "A: it has no unit"
    );
    let mut table = panel(2, 12);
    table["type"] = json!("table");
    let said = faults(&board(vec![panel(1, 0), table.clone()]));
    assert_eq!(
        said,
        ["A: its unit is that of everything in its rows, texts of digits too"]
    );
    table["fieldConfig"]["defaults"]["unit"] = Value::Null;
    table["targets"] = json!([table["targets"][0], table["targets"][0]]);
    let said = faults(&board(vec![panel(1, 0), table]));
    assert_eq!(said, ["A: it shows the first of its tables"]);
    assert_eq!(
        with("/description", json!("")),
        "A: it has no title, or no sentence about it"
    );
    assert_eq!(with("/targets", json!([])), "A: it asks nothing");
    assert_eq!(
        with("/targets/0/legendFormat", json!("")),
        "A: a line of it has no name"
    );
    assert_eq!(
        with("/targets/0/datasource/uid", json!("mine")),
        "A: it names a data source of its own"
    );
    assert_eq!(with("/gridPos/x", json!(13)), "\"A\": it does not fit");
    assert_eq!(with("/gridPos/x", json!(11)), "\"A\" lies on \"A\"");
    assert_eq!(
        with("/targets/0/expr", json!("up{job=~\"$job\"}")),
        "$job is not defined"
    );
}
