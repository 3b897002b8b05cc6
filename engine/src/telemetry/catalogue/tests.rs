use std::collections::BTreeSet;

use super::*;

#[test]
fn names_are_said_once_and_none_is_the_beginning_of_another() {
    let names: Vec<&str> = all_metrics().map(|def| def.name).collect();
    let distinct: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(names.len(), distinct.len());
    let prometheus: BTreeSet<String> = all_metrics().map(MetricDef::prometheus_name).collect();
    assert_eq!(names.len(), prometheus.len());
    let spans: BTreeSet<&str> = SPANS.iter().map(|def| def.name).collect();
    assert_eq!(spans.len(), SPANS.len());
    let events: BTreeSet<&str> = EVENTS.iter().map(|def| def.name).collect();
    assert_eq!(events.len(), EVENTS.len());
}

#[test]
fn metrics_have_units_that_mean_something_and_labels_that_end() {
    for def in all_metrics() {
        assert!(
            ["s", "By"].contains(&def.unit) || (def.unit.starts_with('{') && def.unit.ends_with('}')),
            "{}: {}",
            def.name,
            def.unit
        );
        assert_eq!(def.kind == Kind::Histogram, !def.bounds.is_empty(), "{}", def.name);
        let labels = def.attributes.iter().filter(|attribute| ***attribute != HTTP_METHOD);
        let series: usize = labels.map(|attribute| most_values(def, attribute)).product();
        // The SDK puts all series beyond this together.
        assert!(series < 2_000, "{}: {series} series", def.name);
    }
}

fn most_values(def: &MetricDef, attribute: &Attribute) -> usize {
    match attribute.values {
        Values::Closed(values) if attribute.name == ERROR_TYPE.name => values.len() + 1,
        Values::Closed(values) => values.len(),
        // Hardly a route has more than one method, and none more than a dozen statuses.
        Values::Bounded(most) => most + 1,
        Values::Number if *attribute == HTTP_STATUS => 12,
        Values::Number | Values::Text => unreachable!("{}: {} has no end", def.name, attribute.name),
    }
}

#[test]
fn everything_is_said_in_words() {
    let said = |about: &str| !about.is_empty() && !about.ends_with('.');
    assert!(all_metrics().all(|def| said(def.about)));
    assert!(SPANS.iter().all(|def| said(def.about)));
    assert!(EVENTS.iter().all(|def| said(def.about)));
    assert!(ATTRIBUTES.iter().all(|attribute| said(attribute.about)));
}

#[test]
fn names_of_spans_are_filled_in_and_known_again() {
    assert_eq!(RUN.named("reports"), "run reports");
    assert_eq!(SEND.named(""), "send");
    assert_eq!(REQUEST.named("GET /runs"), "GET /runs");
    assert_eq!(DRAIN.named(""), "drain");
    assert!(RUN.is_of("run reports") && !RUN.is_of("execute reports") && DRAIN.is_of("drain"));
    assert!(SEND.is_of("send") && !DRAIN.is_of("drainage"));
}
