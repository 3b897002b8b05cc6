//! Each attribute that the catalogue has of a span or a metric is told in the scenario of catalogue.rs, or by the code that
//! is named for it here.

use std::collections::BTreeSet;
use std::path::Path;

use lockgate::telemetry::catalogue::{Attribute, SPANS, all_metrics};
use lockgate_tests::collector::{Attributes, Seen};

use crate::catalogue::{self, def_of};

/// A span or metric, and an attribute of it.
type Of = (&'static str, &'static str);

/// Attributes that only show in troubles that the scenario has not, or not always: span or metric, attribute, the file
/// in which it is told, and the code that does.
const ELSEWHERE: &[(&str, &str, &str, &str)] = &[
    // A claim that was lost to another replica.
    (
        "execute {workflow}",
        "error.type",
        "engine/src/execution/run_told.rs",
        "if end == ExecuteEnd::Lost {",
    ),
    // A plan whose claim was lost, whose source cannot be read or whose store does not answer.
    (
        "plan {name}",
        "error.type",
        "engine/src/execution/plan_told.rs",
        "self.span.failed(why)",
    ),
    // A batch that was lost, or that its run fails for.
    (
        "send {topic}",
        "error.type",
        "engine/src/execution/batch_told.rs",
        "self.span.failed(\"lost\")",
    ),
    // Brokers that do not take a direct command at once, or never will.
    (
        "submit {topic}",
        "lockgate.reason",
        "engine/src/delivery/orchestrator/submitted.rs",
        "self.0.set(&STORED_REASON, ",
    ),
    (
        "submit {topic}",
        "error.type",
        "engine/src/delivery/orchestrator/submitted.rs",
        "self.0.failed(failure.code)",
    ),
    // A consumer whose database does not settle a page.
    (
        "poll {topic}",
        "error.type",
        "engine/src/delivery/inbox/spans.rs",
        "self.receive.failed(\"not_settled\")",
    ),
    (
        "process {topic}",
        "error.type",
        "engine/src/delivery/inbox/spans.rs",
        "span.failed(\"not_settled\")",
    ),
    (
        "messaging.process.duration",
        "error.type",
        "engine/src/telemetry/meters.rs",
        "or_none(trouble)],",
    ),
    // Requests that are answered with 5xx.
    (
        "{method} {route}",
        "error.type",
        "engine/src/api/trace.rs",
        "span.failed(error)",
    ),
    (
        "http.server.request.duration",
        "error.type",
        "engine/src/api/trace.rs",
        "meters().request(method, route, status, error, ",
    ),
    // A store that does not answer, or refuses.
    (
        "{verb}",
        "error.type",
        "engine/src/telemetry/timed/mod.rs",
        "span.failed(trouble.text())",
    ),
    (
        "db.client.operation.duration",
        "error.type",
        "engine/src/telemetry/timed/mod.rs",
        "meters().verb(verb, begin.elapsed(), Some(trouble))",
    ),
    (
        "lockgate.group.duration",
        "error.type",
        "engine/src/telemetry/meters.rs",
        "&c::GROUP_DURATION, &[group.text(), or_none(trouble)]",
    ),
    (
        "job {job}",
        "error.type",
        "engine/src/leader/job.rs",
        "Err(why) => span.failed(why)",
    ),
];

/// Names of the semantic conventions that are told, whatever the catalogue says.
const CONVENTIONS: &[(&str, &[&str])] = &[
    (
        "send {topic}",
        &[
            "messaging.system",
            "messaging.operation.name",
            "messaging.operation.type",
            "messaging.destination.name",
            "messaging.batch.message_count",
        ],
    ),
    (
        "poll {topic}",
        &[
            "messaging.system",
            "messaging.operation.name",
            "messaging.operation.type",
            "messaging.destination.name",
            "messaging.consumer.group.name",
            "messaging.batch.message_count",
        ],
    ),
    (
        "process {topic}",
        &[
            "messaging.system",
            "messaging.operation.name",
            "messaging.operation.type",
            "messaging.destination.name",
            "messaging.consumer.group.name",
            "messaging.batch.message_count",
            "messaging.message.id",
        ],
    ),
    (
        "messaging.client.sent.messages",
        &[
            "messaging.system",
            "messaging.operation.name",
            "messaging.destination.name",
            "error.type",
        ],
    ),
    (
        "messaging.process.duration",
        &[
            "messaging.system",
            "messaging.operation.name",
            "messaging.destination.name",
            "messaging.consumer.group.name",
        ],
    ),
    (
        "{verb}",
        &[
            "db.system.name",
            "db.namespace",
            "db.operation.name",
            "db.query.summary",
        ],
    ),
    ("db.client.operation.duration", &["db.system.name", "db.operation.name"]),
    (
        "db.client.connection.count",
        &["db.client.connection.pool.name", "db.client.connection.state"],
    ),
    (
        "{method} {route}",
        &[
            "http.request.method",
            "http.route",
            "http.response.status_code",
            "url.scheme",
        ],
    ),
    (
        "http.server.request.duration",
        &[
            "http.request.method",
            "http.route",
            "http.response.status_code",
            "url.scheme",
        ],
    ),
];

/// The attributes that were told so far.
#[derive(Debug, Default)]
pub struct Told(BTreeSet<Of>);

impl Told {
    /// What has come since, too.
    pub fn add(&mut self, seen: &Seen) {
        for span in seen.spans.iter().filter(|span| span.scope == "lockgate") {
            if let Some(def) = def_of(span) {
                self.add_all(def.name, def.attributes, &span.attributes);
            }
        }
        for def in all_metrics() {
            for point in seen.points(def.name) {
                self.add_all(def.name, def.attributes, &point.attributes);
            }
        }
    }

    fn add_all(&mut self, of: &'static str, known: &'static [&'static Attribute], told: &Attributes) {
        let named = known.iter().filter(|attribute| told.contains_key(attribute.name));
        self.0.extend(named.map(|attribute| (of, attribute.name)));
    }

    /// What should have been told and was not.
    pub fn missing(&self) -> Vec<Of> {
        let elsewhere: BTreeSet<Of> = ELSEWHERE.iter().map(|(of, attribute, ..)| (*of, *attribute)).collect();
        let metrics: BTreeSet<&str> = catalogue::ELSEWHERE.iter().map(|(metric, ..)| *metric).collect();
        let due = catalogued().filter(|of| !elsewhere.contains(of) && !metrics.contains(of.0));
        let conventions = CONVENTIONS
            .iter()
            .flat_map(|(of, names)| names.iter().map(move |name| (*of, *name)));
        let due: BTreeSet<Of> = due.chain(conventions).collect();
        due.difference(&self.0).copied().collect()
    }
}

/// All that the catalogue has.
fn catalogued() -> impl Iterator<Item = Of> {
    let spans = SPANS.iter().map(|def| (def.name, def.attributes));
    let metrics = all_metrics().map(|def| (def.name, def.attributes));
    spans
        .chain(metrics)
        .flat_map(|(of, attributes)| attributes.iter().map(move |attribute| (of, attribute.name)))
}

#[test]
fn what_is_told_elsewhere_is_in_the_catalogue_and_in_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let all: BTreeSet<Of> = catalogued().collect();
    for (of, attribute, file, code) in ELSEWHERE {
        assert!(all.contains(&(*of, *attribute)), "{of} has no {attribute}");
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        assert!(
            text.contains(code),
            "{file} has no {code}, which is to tell {attribute} of {of}"
        );
    }
}
