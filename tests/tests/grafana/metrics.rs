//! Every query of metrics parses, and what it names is recorded.

use lockgate_tests::grafana::catalogue::{self, Metric};
use lockgate_tests::grafana::dashboard::DASHBOARDS;
use lockgate_tests::grafana::promql::{filled_in, written_out};
use lockgate_tests::grafana::{alerts, rules};
use promql_parser::label::MatchOp;
use promql_parser::parser::{self, AggregateExpr, Expr, LabelModifier, VectorSelector};

/// Labels that Prometheus gives: of the process, and of the buckets of histograms.
const GIVEN: [&str; 3] = ["job", "instance", "le"];

/// What a query reads and groups by.
#[derive(Default)]
struct Read {
    selectors: Vec<VectorSelector>,
    labels: Vec<String>,
}

fn walk(expr: &Expr, read: &mut Read) {
    match expr {
        Expr::VectorSelector(selector) => read.selectors.push(selector.clone()),
        Expr::MatrixSelector(matrix) => read.selectors.push(matrix.vs.clone()),
        Expr::Aggregate(AggregateExpr {
            expr, modifier, param, ..
        }) => {
            if let Some(LabelModifier::Include(labels) | LabelModifier::Exclude(labels)) = modifier {
                read.labels.extend(labels.labels.iter().cloned());
            }
            param.iter().for_each(|param| walk(param, read));
            walk(expr, read);
        }
        Expr::Binary(binary) => {
            walk(&binary.lhs, read);
            walk(&binary.rhs, read);
        }
        Expr::Call(call) => call.args.args.iter().for_each(|argument| walk(argument, read)),
        Expr::Paren(paren) => walk(&paren.expr, read),
        Expr::Unary(unary) => walk(&unary.expr, read),
        Expr::Subquery(subquery) => walk(&subquery.expr, read),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) => {}
        Expr::Extension(_) => panic!("an extension"),
    }
}

fn recorded(series: &str) -> Option<Metric> {
    catalogue::all().find(|metric| metric.series().iter().any(|name| name == series))
}

/// All that is wrong with a query.
fn faults(query: &str) -> Vec<String> {
    let expr = match parser::parse(&filled_in(query)) {
        Ok(expr) => expr,
        Err(error) => return vec![format!("{query}: {error}")],
    };
    let mut read = Read::default();
    walk(&expr, &mut read);
    let mut faults = Vec::new();
    for selector in &read.selectors {
        let name = selector.name.clone().unwrap_or_default();
        let Some(metric) = recorded(&name) else {
            faults.push(format!("nothing records {name}"));
            continue;
        };
        for matcher in &selector.matchers.matchers {
            faults.extend(wrong_matcher(metric, &matcher.name, &matcher.op, &matcher.value));
        }
        let grouped = read.labels.iter().filter(|label| !GIVEN.contains(&label.as_str()));
        faults.extend(
            grouped
                .filter(|label| metric.label(label).is_none())
                .map(|label| format!("{name} has no {label}")),
        );
    }
    if read.selectors.is_empty() {
        faults.push(format!("{query} reads nothing"));
    }
    faults
}

fn wrong_matcher(metric: Metric, label: &str, op: &MatchOp, value: &str) -> Option<String> {
    if GIVEN.contains(&label) {
        return None;
    }
    let Some(values) = metric.label(label) else {
        return Some(format!("{} has no {label}", metric.0.prometheus_name()));
    };
    // No value stands for "without it"; of the open ones any may be.
    if values.is_empty() || value.is_empty() {
        return None;
    }
    let matched: Vec<&str> = match op {
        MatchOp::Equal | MatchOp::NotEqual => vec![value],
        MatchOp::Re(_) | MatchOp::NotRe(_) => value.split('|').collect(),
    };
    let is_one = |wanted: &&str| match wanted.strip_prefix(".*") {
        Some(end) => values.iter().any(|value| value.ends_with(end)),
        None => values.contains(wanted),
    };
    let wrong = matched.into_iter().find(|wanted| !is_one(wanted))?;
    Some(format!(
        "{label} of {} is never {wanted:?}",
        metric.0.prometheus_name(),
        wanted = wrong
    ))
}

#[test]
fn panels_name_metrics_and_labels_that_are_recorded() {
    let queries = DASHBOARDS
        .iter()
        .flat_map(|board| board.panels)
        .flat_map(|panel| panel.prometheus.1);
    let mut asked = 0;
    for query in queries {
        assert_eq!(faults(&written_out(query.text)), [""; 0], "{}", query.text);
        asked += 1;
    }
    assert!(asked >= 60, "{asked} queries");
}

#[test]
fn legends_name_labels_that_the_query_leaves() {
    for query in DASHBOARDS
        .iter()
        .flat_map(|board| board.panels)
        .flat_map(|panel| panel.prometheus.1)
    {
        let mut read = Read::default();
        walk(&parser::parse(&filled_in(&written_out(query.text))).unwrap(), &mut read);
        for label in query
            .legend
            .split("{{")
            .skip(1)
            .map(|rest| rest.split("}}").next().unwrap())
        {
            let left = read.labels.iter().any(|left| left == label);
            // Without an aggregation all labels are left.
            assert!(
                left || (read.labels.is_empty() && GIVEN.contains(&label)),
                "{}: {{{{{label}}}}}",
                query.text
            );
        }
    }
}

#[test]
fn rules_name_metrics_and_labels_that_are_recorded() {
    for alert in alerts::all() {
        assert_eq!(faults(&rules::expr(alert)), [""; 0], "{}", alert.name);
        for (series, _) in alert.bad.0.iter().chain(alert.good) {
            let bare = written_out(series)
                .replace("instance=\"a\"", "")
                .replace("instance=\"b\"", "");
            assert_eq!(faults(&bare.replace("{}", "")), [""; 0], "{}", alert.name);
        }
    }
}

#[test]
fn a_bad_query_is_complained_about() {
    let first = |query: &str| faults(query).into_iter().next().unwrap_or_default();
    assert_eq!(
        first("sum(rate(lockgate_items_total{lockgate_outcome=\"delivered\"}[5m]))"),
        ""
    );
    assert!(first("sum(lockgate_items_total").contains("lockgate_items_total"));
    assert_eq!(first("lockgate_items"), "nothing records lockgate_items");
    assert_eq!(
        first("sum by (lockgate_kind) (lockgate_items_total)"),
        "lockgate_items_total has no lockgate_kind"
    );
    assert_eq!(
        first("lockgate_items_total{lockgate_kind=\"a\"}"),
        "lockgate_items_total has no lockgate_kind"
    );
    assert_eq!(
        first("lockgate_items_total{lockgate_outcome=~\"delivered|deliverd\"}"),
        "lockgate_outcome of lockgate_items_total is never \"deliverd\""
    );
    assert_eq!(first("vector(1)"), "vector(1) reads nothing");
}
