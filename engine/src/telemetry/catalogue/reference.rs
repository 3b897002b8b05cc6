//! docs/telemetry.md, made of the catalogue.

use std::fmt::Write as _;

use super::*;

const HEAD: &str = include_str!("reference_head.md");

/// The page docs/telemetry.md.
#[must_use]
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    metrics(&mut page, "Metrics of processes", PROCESS_METRICS);
    metrics(
        &mut page,
        "Metrics of the fleet, reported by the leader alone",
        FLEET_METRICS,
    );
    spans(&mut page);
    attributes(&mut page);
    events(&mut page);
    page
}

fn metrics(page: &mut String, title: &str, list: &[&MetricDef]) {
    let _ = write!(
        page,
        "\n## {title}\n\n| metric | unit | kind | attributes | what | in Prometheus |\n| --- | --- | --- | --- | --- | --- |\n"
    );
    for def in list {
        let kind = match def.kind {
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
            Kind::Gauge => "gauge",
        };
        let attributes: Vec<String> = def.attributes.iter().map(|attribute| with_values(attribute)).collect();
        let _ = writeln!(
            page,
            "| `{}` | {} | {kind} | {} | {}{} | `{}` |",
            def.name,
            def.unit,
            attributes.join("<br>"),
            def.about,
            seen(def.when),
            def.prometheus_name()
        );
    }
}

fn with_values(attribute: &Attribute) -> String {
    match attribute.values {
        Values::Closed(values) => format!("`{}`: {}", attribute.name, values.join(", ")),
        Values::Bounded(most) => format!("`{}`, {most} at most", attribute.name),
        Values::Number | Values::Text => format!("`{}`", attribute.name),
    }
}

fn seen(when: When) -> &'static str {
    match when {
        When::Always | When::AtWork => "",
        When::InTrouble => " (in trouble only)",
    }
}

fn spans(page: &mut String) {
    page.push_str("\n## Spans\n\n| span | kind | what | within | linked to | attributes | events |\n| --- | --- | --- | --- | --- | --- | --- |\n");
    for def in SPANS {
        let names: Vec<String> = def
            .attributes
            .iter()
            .map(|attribute| format!("`{}`", attribute.name))
            .collect();
        let _ = writeln!(
            page,
            "| `{}` | {} | {}{} | {} | {} | {} | {} |",
            def.name,
            def.kind,
            def.about,
            seen(def.when),
            def.parent,
            def.links,
            names.join(", "),
            def.events.join(", ")
        );
    }
}

fn attributes(page: &mut String) {
    page.push_str("\n## Attributes\n\n| attribute | what | values |\n| --- | --- | --- |\n");
    for attribute in ATTRIBUTES {
        let values = match attribute.values {
            Values::Closed(values) => values.join(", "),
            Values::Bounded(most) => format!("as metrics have them, the first {most} and then `_other`"),
            Values::Number => "number".to_owned(),
            Values::Text => "text; spans only".to_owned(),
        };
        let _ = writeln!(page, "| `{}` | {} | {values} |", attribute.name, attribute.about);
    }
}

fn events(page: &mut String) {
    page.push_str("\n## Log events\n\n| event | level | what | fields |\n| --- | --- | --- | --- |\n");
    for def in EVENTS {
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} |",
            def.name,
            def.level.to_lowercase(),
            def.about,
            def.fields.join(", ")
        );
    }
}
