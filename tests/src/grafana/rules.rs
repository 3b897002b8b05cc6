//! The alert rules as Prometheus and as Grafana take them, and the cases of `promtool test rules`.

use yaml_rust2::Yaml;

use super::alert::{Alert, Fires};
use super::panel::Source;
use super::yaml::{document, list, map, put, text};
use super::{alerts, promql};

/// When the cases look: later than any rule lasts, the last value included.
const LOOK_AT: &str = "20m";

/// What Prometheus loads.
#[must_use]
pub fn prometheus(runbook: &str) -> String {
    let rules = alerts::all().map(|alert| {
        map([
            ("alert", text(alert.name)),
            ("expr", text(expr(alert))),
            ("for", text(alert.lasts)),
            ("labels", labels(alert)),
            ("annotations", annotations(alert, runbook)),
        ])
    });
    let group = map([
        ("name", text("lockgate")),
        ("interval", text("30s")),
        ("rules", list(rules)),
    ]);
    let about = "Alert rules of Lockgate for Prometheus.";
    document(about, &map([("groups", list([group]))]))
}

/// The whole comparison in PromQL.
#[must_use]
pub fn expr(alert: &Alert) -> String {
    let value = value(alert);
    let value = if value.contains(" or ") {
        format!("({value})")
    } else {
        value
    };
    let compared = format!("{value} {}", alert.fires.text());
    match alert.or_absent {
        None => compared,
        // Nobody is heard of at all.
        Some(metric) => format!("{compared} or (absent({}) unless on () {})", told(metric), heard()),
    }
}

/// What is compared; of an installation that was heard of within the day and does not tell it, what makes the rule fire.
fn value(alert: &Alert) -> String {
    let value = promql::written_out(alert.expr);
    let Some(metric) = alert.or_absent else {
        return value;
    };
    let worst = match alert.fires {
        Fires::Above(_) => "1e9",
        Fires::Below(_) => "0",
    };
    format!(
        "{value} or {worst} * (group by (job) {} unless on (job) {})",
        heard(),
        told(metric)
    )
}

/// A metric's name as Prometheus has it.
fn told(metric: &str) -> String {
    promql::written_out(&format!("<{metric}>"))
}

/// Replicas of the last day: workers, and those who could lead.
fn heard() -> String {
    promql::written_out("(present_over_time(<lockgate.run.slots>[1d]) or present_over_time(<lockgate.leading>[1d]))")
}

fn labels(alert: &Alert) -> Yaml {
    map([("severity", text(alert.severity.text())), ("service", text("lockgate"))])
}

fn annotations(alert: &Alert, runbook: &str) -> Yaml {
    map([
        ("summary", text(alert.summary)),
        ("description", text(alert.meaning)),
        ("runbook_url", text(format!("{runbook}#{}", alert.anchor()))),
    ])
}

/// What `promtool test rules` takes: each rule fires when it should, and not when all is well.
#[must_use]
pub fn cases(runbook: &str) -> String {
    let mut tests = Vec::new();
    for alert in alerts::all() {
        let (series, own) = alert.bad;
        tests.push(case(alert, "fires", series, &[own], runbook));
        tests.push(case(alert, "is quiet", alert.good, &[], runbook));
        if let Some(metric) = alert.or_absent {
            let well = match alert.fires {
                Fires::Above(_) => "0+0x40",
                Fires::Below(_) => "1+0x40",
            };
            let other = match metric {
                "lockgate.run.slots" => "<lockgate.leading>{job=\"b\"}",
                _ => "<lockgate.run.slots>{job=\"b\"}",
            };
            // The second tells other things, the third was there for a while.
            let series = [
                (&*format!("<{metric}>{{job=\"a\"}}"), well),
                (other, "1+0x40"),
                ("<lockgate.run.slots>{job=\"c\"}", "1+0x2"),
            ];
            let fires: [Labels; 2] = [&[("job", "b")], &[("job", "c")]];
            let what = "fires for each installation that does not tell it";
            tests.push(case(alert, what, &series, &fires, runbook));
            tests.push(case(
                alert,
                "fires when nothing is told",
                &[("up", "1+0x40")],
                &[&[]],
                runbook,
            ));
        }
    }
    let all = map([
        ("rule_files", list([text("../rules/lockgate.yaml")])),
        ("evaluation_interval", text("30s")),
        ("tests", list(tests)),
    ]);
    document(
        "Cases for promtool test rules: each alert fires when it should, and only then.",
        &all,
    )
}

/// Labels of an alert of its own.
type Labels<'a> = &'a [(&'a str, &'a str)];

fn case(alert: &Alert, what: &str, series: &[(&str, &str)], fires: &[Labels<'_>], runbook: &str) -> Yaml {
    let series = series
        .iter()
        .map(|(series, values)| map([("series", text(promql::written_out(series))), ("values", text(*values))]));
    let expected = fires.iter().map(|own| {
        let mut labels = labels(alert);
        own.iter()
            .for_each(|(name, value)| put(&mut labels, name, text(*value)));
        map([("exp_labels", labels), ("exp_annotations", annotations(alert, runbook))])
    });
    let look = map([
        ("eval_time", text(LOOK_AT)),
        ("alertname", text(alert.name)),
        ("exp_alerts", list(expected)),
    ]);
    map([
        ("name", text(format!("{} {what}", alert.name))),
        ("interval", text("30s")),
        ("input_series", list(series)),
        ("alert_rule_test", list([look])),
    ])
}

/// What Grafana provisions: a group for each source, the one of Postgres paused, since one source suffices.
#[must_use]
pub fn grafana(runbook: &str) -> String {
    let group = |source: Source, rules: Vec<Yaml>| {
        map([
            ("orgId", Yaml::Integer(1)),
            ("name", text(source.uid())),
            ("folder", text("Lockgate")),
            ("interval", text("30s")),
            ("rules", list(rules)),
        ])
    };
    let metrics = alerts::all().map(|alert| rule(alert, Source::Prometheus, prometheus_query(alert), runbook));
    let views =
        alerts::all().filter_map(|alert| Some(rule(alert, Source::Postgres, postgres_query(alert.sql?), runbook)));
    let all = map([
        ("apiVersion", Yaml::Integer(1)),
        (
            "groups",
            list([
                group(Source::Prometheus, metrics.collect()),
                group(Source::Postgres, views.collect()),
            ]),
        ),
    ]);
    document(
        "Alert rules of Lockgate for Grafana, from metrics and, paused, from the views: one of the two suffices.",
        &all,
    )
}

fn rule(alert: &Alert, source: Source, query: Yaml, runbook: &str) -> Yaml {
    let silence = if alert.or_absent.is_some() && source == Source::Prometheus {
        "Alerting"
    } else {
        "OK"
    };
    let asked = map([
        ("refId", text("A")),
        (
            "relativeTimeRange",
            map([("from", Yaml::Integer(600)), ("to", Yaml::Integer(0))]),
        ),
        ("datasourceUid", text(source.uid())),
        ("model", query),
    ]);
    map([
        ("uid", text(rule_uid(alert, source))),
        (
            "title",
            text(if source == Source::Prometheus {
                alert.name.to_owned()
            } else {
                format!("{} (SQL)", alert.name)
            }),
        ),
        ("condition", text("C")),
        ("data", list([asked, threshold(alert)])),
        ("noDataState", text(silence)),
        ("execErrState", text("Error")),
        ("for", text(alert.lasts)),
        ("isPaused", Yaml::Boolean(source == Source::Postgres)),
        ("labels", labels(alert)),
        ("annotations", annotations(alert, runbook)),
    ])
}

/// At most 40 characters, and of letters, digits and `-`.
#[must_use]
pub fn rule_uid(alert: &Alert, source: Source) -> String {
    let name = alert.anchor();
    let short = name.strip_prefix("lockgate").unwrap_or(&name);
    format!(
        "lockgate-{short}-{}",
        if source == Source::Prometheus { "prom" } else { "sql" }
    )
}

/// Without the comparison: a query that compares answers nothing when all is well, which Grafana takes for missing data.
fn prometheus_query(alert: &Alert) -> Yaml {
    map([
        ("refId", text("A")),
        ("expr", text(value(alert))),
        ("instant", Yaml::Boolean(true)),
        ("range", Yaml::Boolean(false)),
    ])
}

fn postgres_query(sql: &str) -> Yaml {
    map([
        ("refId", text("A")),
        ("rawSql", text(sql)),
        ("rawQuery", Yaml::Boolean(true)),
        ("format", text("table")),
        ("editorMode", text("code")),
    ])
}

fn threshold(alert: &Alert) -> Yaml {
    let (kind, value) = match alert.fires {
        Fires::Above(value) => ("gt", value),
        Fires::Below(value) => ("lt", value),
    };
    let evaluator = map([("type", text(kind)), ("params", list([Yaml::Real(value.to_string())]))]);
    map([
        ("refId", text("C")),
        ("datasourceUid", text("__expr__")),
        (
            "model",
            map([
                ("refId", text("C")),
                ("type", text("threshold")),
                ("expression", text("A")),
                ("conditions", list([map([("evaluator", evaluator)])])),
            ]),
        ),
    ])
}
