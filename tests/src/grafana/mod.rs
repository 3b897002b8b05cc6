//! Dashboards, alert rules and the runbook's table, made from one description: every metric is named as the engine's
//! catalogue names it, every view as the schema does. `lockgate-grafana` writes the files, a test holds them to it.

pub mod alert;
pub mod alerts;
pub mod catalogue;
mod consumer_alerts;
pub mod dashboard;
mod delivery;
mod overview;
pub mod panel;
pub mod promql;
pub mod provisioning;
mod replicas;
pub mod rules;
pub mod runbook;
mod runs;
pub mod sql;
mod work_alerts;
mod yaml;

use std::path::Path;

/// Every file by its path below the repository, as it should be. `runbook` is where people read the runbook.
///
/// # Panics
/// The runbook is not there.
#[must_use]
pub fn files(root: &Path, runbook: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for board in &dashboard::DASHBOARDS {
        for source in dashboard::SOURCES {
            let json = serde_json::to_string_pretty(&board.json(source)).expect("a document of JSON");
            files.push((
                format!("ops/grafana/dashboards/{}.json", dashboard::uid(board.name, source)),
                json + "\n",
            ));
        }
    }
    let provisioned = [
        ("datasources", provisioning::datasources()),
        ("dashboards", provisioning::dashboards()),
        ("alerting", rules::grafana(runbook)),
    ];
    files.extend(provisioned.map(|(folder, text)| (format!("ops/grafana/provisioning/{folder}/lockgate.yaml"), text)));
    files.push((
        "ops/prometheus/rules/lockgate.yaml".to_owned(),
        rules::prometheus(runbook),
    ));
    files.push(("ops/prometheus/tests/lockgate.yaml".to_owned(), rules::cases(runbook)));
    let page = std::fs::read_to_string(root.join("ops/runbook.md")).expect("the runbook is there");
    files.push(("ops/runbook.md".to_owned(), runbook::page(&page)));
    files
}

/// The root of the repository.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
