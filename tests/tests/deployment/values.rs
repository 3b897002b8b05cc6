//! What values make of the chart, and which of them it refuses.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::chart::{
    ALL, CHART, KUBERNETES, container, env, filled_in, filled_in_as, helm, hold_deployment, name, of_kind, run, run_on,
};
use crate::files::{documents, path, text};

#[test]
fn the_migration_logs_in_as_whom_it_is_told_to() {
    let Some(helm) = helm() else { return };
    let direct = "secretFiles.DATABASE_URL_DIRECT_FILE=direct-url";
    let own = "migration.secretFiles.DATABASE_URL_FILE=migrator-url";
    let own_direct = "migration.secretFiles.DATABASE_URL_DIRECT_FILE=migrator-direct-url";
    let past_the_pooler = |values: &[&str]| {
        let all = filled_in(&helm, KUBERNETES[1], values);
        let job = of_kind(&all, "Job").next().unwrap();
        env(container(job)).remove("DATABASE_URL_DIRECT_FILE")
    };
    let file = |name: &str| Some(format!("/etc/lockgate/secrets/{name}"));
    assert_eq!(past_the_pooler(&[direct]), file("direct-url"));
    assert_eq!(past_the_pooler(&[direct, own]), None, "that is the replicas' login");
    let both = [direct, own, own_direct];
    assert_eq!(past_the_pooler(&both), file("migrator-direct-url"));
}

#[test]
fn pods_listen_at_the_address_that_is_given() {
    let Some(helm) = helm() else { return };
    for at in ["0.0.0.0", "[::]"] {
        let listen = format!("listen={at}");
        let all = filled_in(&helm, KUBERNETES[1], &[listen.as_str(), "emailSender.replicas=1"]);
        let deployments: Vec<&Value> = of_kind(&all, "Deployment").collect();
        deployments.iter().for_each(|deployment| hold_deployment(deployment));
        let variables = deployments.iter().flat_map(|deployment| env(container(deployment)));
        let listens: Vec<String> = variables
            .filter(|(name, _)| name.ends_with("_LISTEN"))
            .map(|(_, value)| value)
            .collect();
        assert_eq!(listens.len(), 5, "{listens:?}");
        let at = format!("{at}:");
        assert!(listens.iter().all(|one| one.starts_with(&at)), "{listens:?}");
    }
}

#[test]
fn no_variable_can_be_given_twice() {
    let Some(helm) = helm() else { return };
    let all = filled_in(&helm, KUBERNETES[1], &ALL);
    let variables = of_kind(&all, "Deployment").flat_map(|deployment| env(container(deployment)).into_keys());
    // These come from `env`, or are there unless they do: they are only given anew.
    let anew = [
        "RUST_LOG",
        "LOCKGATE_TELEMETRY_LOG_FORMAT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_RESOURCE_ATTRIBUTES",
    ];
    let own: BTreeSet<String> = variables.filter(|name| !anew.contains(&name.as_str())).collect();
    assert!(own.len() >= 9, "{own:?}");
    for variable in &own {
        for map in ["env", "emailSender.env"] {
            let value = format!("{map}.{variable}=x");
            let values = [&ALL[..], &[value.as_str()]].concat();
            let output = run(&helm, &["template", "shop"], KUBERNETES[1], &values);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && said.contains(variable), "{value}: {said}");
        }
    }
}

#[test]
fn names_that_look_like_numbers_are_names_and_each_release_has_its_own() {
    let Some(helm) = helm() else { return };
    let (first, second) = (format!("{}1", "x".repeat(52)), format!("{}2", "x".repeat(52)));
    let values = [
        "existingSecret=1e3",
        "secretFiles.DATABASE_URL_FILE=1e4",
        "emailSender.replicas=1",
        "monitoring.podMonitor.enabled=true",
        "roles.abcdefghijklmnopqrstuv.runs=api",
        "roles.abcdefghijklmnopqrstuv.replicas=1",
    ];
    let mut taken = BTreeSet::new();
    for release in ["shop", "1e3", "a.b", "a-b", &first, &second] {
        let all = filled_in_as(release, &helm, KUBERNETES[1], &values);
        of_kind(&all, "Deployment").for_each(hold_deployment);
        for document in &all {
            let called = name(document);
            assert!(called.len() <= 63 && !called.contains('.'), "{called} names no Service");
            let place = format!("{} {called}", document["kind"]);
            assert!(taken.insert(place), "{release}: {called} is another's");
            let labels = &document["metadata"]["labels"];
            assert_eq!(labels["app.kubernetes.io/instance"], release, "{called}");
        }
    }
    assert!(taken.contains("\"Deployment\" shop-leader"), "{taken:?}");
}

/// What whoever installs it is told: without a cluster helm tells nobody.
pub fn notes(helm: &str, values: &[&str]) -> String {
    let chart = std::env::temp_dir().join(format!("lockgate-notes-{}", uuid::Uuid::new_v4().simple()));
    let copied = Command::new("cp").arg("-r").arg(path(CHART)).arg(&chart).status();
    assert!(copied.unwrap().success());
    let notes = text(&format!("{CHART}/templates/NOTES.txt"));
    let told = r#"told: {{ include "told" . | quote }}"#;
    let template = format!(r#"{{{{ define "told" }}}}{notes}{{{{ end }}}}{told}"#);
    std::fs::write(chart.join("templates/told.yaml"), template).unwrap();
    let verb = ["template", "shop", "--show-only", "templates/told.yaml"];
    let output = run_on(&chart, helm, &verb, KUBERNETES[1], values);
    std::fs::remove_dir_all(chart).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let told = documents("NOTES.txt", &String::from_utf8(output.stdout).unwrap());
    told[0]["told"].as_str().unwrap().to_owned()
}

#[test]
fn whoever_installs_it_is_led_to_a_pod_that_is_there() {
    let Some(helm) = helm() else { return };
    let told = notes(&helm, &[]);
    assert!(told.contains("exec deploy/shop-api -- lockgate doctor\n"), "{told}");
    assert!(told.contains("  worker: 3 replicas, role worker\n"), "{told}");
    let told = notes(&helm, &["roles.api.replicas=0", "autoscaling.enabled=true"]);
    assert!(told.contains("exec deploy/shop-leader -- lockgate doctor\n"), "{told}");
    assert!(!told.contains("api"), "{told}");
    assert!(told.contains("  worker: 2 to 10 replicas"), "{told}");
    let none = [
        "roles.api.replicas=0",
        "roles.leader.replicas=0",
        "roles.worker.replicas=0",
    ];
    let told = notes(&helm, &none);
    assert!(!told.contains("exec"), "{told}");
}

/// The name `lockgate` alone is one that anybody may push to.
#[test]
fn whose_image_it_is_has_to_be_said() {
    let Some(helm) = helm() else { return };
    let output = Command::new(helm)
        .args(["template", "shop", "--kube-version", KUBERNETES[1]])
        .arg(path(CHART))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("image.repository is empty, and no image is published"),
        "{said}"
    );
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let Some(helm) = helm() else { return };
    let no_workers = ["autoscaling.enabled=true", "roles.worker.replicas=0"];
    assert!(
        !run(&helm, &["template", "shop"], KUBERNETES[1], &no_workers)
            .status
            .success()
    );
    for value in [
        "replicaCount=3",
        "image.repository=",
        "image.tag=latest",
        "monitoring.podMonitor.enable=true",
        "monitoring.podMonitor.labels.release=1",
        "roles.worker.runs=boss",
        "drainDeadlineSeconds=0",
        "emailSender.leaseSeconds=9",
        "existingSecret=",
        "podDisruptionBudget.maxUnavailable=0",
        "listen=::",
        "listen=0.0.0.0:8081",
        "podAnnotations.mesh=true",
        "nodeSelector.zone=1",
        "roles.migrate.runs=worker,roles.migrate.replicas=1",
        "roles.email-sender.runs=worker,roles.email-sender.replicas=1",
        "roles.worker-.runs=worker,roles.worker-.replicas=1",
        "roles.abcdefghijklmnopqrstuvw.runs=worker,roles.abcdefghijklmnopqrstuvw.replicas=1",
        "autoscaling.enabled=true,autoscaling.minReplicas=11",
    ] {
        let output = run(&helm, &["template", "shop"], KUBERNETES[1], &[value]);
        assert!(!output.status.success(), "{value} was taken");
    }
}
