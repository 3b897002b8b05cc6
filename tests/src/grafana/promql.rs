//! Queries of metrics: short forms are written out, and what they name is held to the catalogue.
//!
//! `<lockgate.items>` is the metric's name as Prometheus has it (a histogram's parts are `<…>_bucket`, `_sum`, `_count`);
//! `{J` is the job that the dashboard has chosen, `,W` its workflows. `risen(SERIES; 1h)` is by how much a counter has risen in that
//! time: one that is first seen above nothing has risen from nothing, which is no `increase` to Prometheus. One that was heard
//! of within the day before has not, also when nothing was heard of it for a while.

use super::catalogue;

const JOB: &str = "{job=~\"$job\"";
const WORKFLOW: &str = ",lockgate_workflow=~\"$workflow\"";

/// A query as Prometheus takes it, but for Grafana's variables.
///
/// # Panics
/// It names a metric that nothing records.
#[must_use]
pub fn written_out(short: &str) -> String {
    let mut out = String::new();
    let mut rest = short;
    while let Some((before, name, after)) = next_name(rest) {
        let metric = catalogue::metric(name).unwrap_or_else(|| panic!("{short}: there is no metric {name}"));
        out.push_str(before);
        out.push_str(&metric.0.prometheus_name());
        rest = after;
    }
    out.push_str(rest);
    risen(&out.replace("{J", JOB).replace(",W", WORKFLOW))
}

fn risen(short: &str) -> String {
    let Some((before, rest)) = short.split_once("risen(") else {
        return short.to_owned();
    };
    let (series, rest) = rest.split_once("; ").expect("risen(SERIES; TIME)");
    let (time, after) = rest.split_once(')').expect("risen(SERIES; TIME)");
    let after = risen(after);
    format!(
        "{before}(increase({series}[{time}]) > 0 or ({series} unless present_over_time({series}[1d] offset {time}))){after}"
    )
}

/// What stands before the first `<name>`, the name, and what follows; `<` before anything but a letter compares.
fn next_name(text: &str) -> Option<(&str, &str, &str)> {
    let opens = |at: &usize| text[at + 1..].starts_with(|next: char| next.is_ascii_lowercase());
    let open = text.match_indices('<').map(|(at, _)| at).find(opens)?;
    let close = open + text[open..].find('>')?;
    Some((&text[..open], &text[open + 1..close], &text[close + 1..]))
}

/// With Grafana's variables filled in as Grafana does for one shown hour.
#[must_use]
pub fn filled_in(query: &str) -> String {
    let filled = [
        ("$__rate_interval", "1m"),
        ("$__interval", "15s"),
        ("$__range", "1h"),
        ("$job", ".*"),
        ("$workflow", ".*"),
    ];
    filled
        .iter()
        .fold(query.to_owned(), |query, (name, value)| query.replace(name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_are_written_out() {
        assert_eq!(
            written_out("sum(rate(<lockgate.items>{J,W}[$__rate_interval])) < 1"),
            "sum(rate(lockgate_items_total{job=~\"$job\",lockgate_workflow=~\"$workflow\"}[$__rate_interval])) < 1"
        );
        assert_eq!(
            written_out("sum(risen(<lockgate.items>{a=\"b\"}; 5m)) > 1"),
            "sum((increase(lockgate_items_total{a=\"b\"}[5m]) > 0 or (lockgate_items_total{a=\"b\"} unless present_over_time(lockgate_items_total{a=\"b\"}[1d] offset 5m)))) > 1"
        );
        assert_eq!(
            written_out("<lockgate.run.duration>_bucket{le=\"1\"}"),
            "lockgate_run_duration_seconds_bucket{le=\"1\"}"
        );
    }

    #[test]
    #[should_panic(expected = "there is no metric lockgate.itms")]
    fn a_metric_that_nothing_records_is_refused() {
        let _ = written_out("<lockgate.itms>");
    }

    #[test]
    fn no_variable_is_left() {
        assert_eq!(
            filled_in("rate(x{job=~\"$job\"}[$__rate_interval]) + increase(y[$__range])"),
            "rate(x{job=~\".*\"}[1m]) + increase(y[1h])"
        );
    }
}
