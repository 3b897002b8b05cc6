//! The runbook's table, one row an alert.

use super::alerts;

/// Before and behind what is generated.
pub const MARKERS: [&str; 2] = ["<!-- alerts: written by lockgate-grafana -->\n", "<!-- /alerts -->\n"];

/// The rows.
#[must_use]
pub fn table() -> String {
    let mut out = String::from("| alert | meaning | first query | action |\n| --- | --- | --- | --- |\n");
    for alert in alerts::all() {
        let cell = |text: &str| text.replace('|', "\\|");
        out += &format!(
            "| <a id=\"{}\"></a>**{}** ({}) | {}. {} | `{}` | {} |\n",
            alert.anchor(),
            alert.name,
            alert.severity.text(),
            cell(alert.summary),
            cell(alert.meaning),
            cell(alert.query),
            cell(alert.action),
        );
    }
    out
}

/// The page with the rows as they are now.
///
/// # Panics
/// The page has no markers.
#[must_use]
pub fn page(before: &str) -> String {
    let [begin, end] = MARKERS;
    let (head, rest) = before.split_once(begin).expect("the runbook has a place for its table");
    let (_, tail) = rest.split_once(end).expect("the runbook's table has an end");
    format!("{head}{begin}{}{end}{tail}", table())
}
