//! Queries of metrics: short forms are written out, and what they name is held to the catalogue.
//!
//! `<lockgate.items>` is the metric's name as Prometheus has it (a histogram's parts are `<…>_bucket`, `_sum`, `_count`);
//! `{J` is the job that the dashboard has chosen, `,W` its workflows.

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
    out.replace("{J", JOB).replace(",W", WORKFLOW)
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
