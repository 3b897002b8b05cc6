//! What the chart's pods tell of themselves, and who comes to take it.

use std::collections::BTreeMap;

use lockgate::config::LogFormat;
use serde_json::Value;

use crate::chart::{ALL, KUBERNETES, container, env, filled_in, helm, name, of_kind, pod_labels, selector, value};
use crate::names;
use crate::values::notes;

/// The environment as the kubelet makes it: `$(NAME)` is a variable that stands before it.
fn as_started(container: &Value) -> BTreeMap<String, String> {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for variable in container["env"].as_array().unwrap() {
        let mut is = value(variable);
        for (earlier, value) in &known {
            is = is.replace(&format!("$({earlier})"), value);
        }
        known.insert(variable["name"].as_str().unwrap().to_owned(), is);
    }
    known
}

#[test]
fn what_is_sent_says_from_which_pod_it_comes() {
    let Some(helm) = helm() else { return };
    let by_itself = "k8s.pod.name=<metadata.name>,k8s.namespace.name=<metadata.namespace>";
    let given = r"env.OTEL_RESOURCE_ATTRIBUTES=tier=gold\,k8s.pod.name=$(OTEL_RESOURCE_ATTRIBUTES_POD_NAME)";
    let of_sender = "emailSender.env.OTEL_RESOURCE_ATTRIBUTES=tier=mail";
    let gold = "tier=gold,k8s.pod.name=<metadata.name>";
    for (values, replicas, sender) in [
        (&["emailSender.replicas=1"][..], by_itself, by_itself),
        (&["emailSender.replicas=1", given][..], gold, gold),
        (&["emailSender.replicas=1", of_sender][..], by_itself, "tier=mail"),
    ] {
        let all = filled_in(&helm, KUBERNETES[1], values);
        assert_eq!(of_kind(&all, "Deployment").count(), 4);
        for deployment in of_kind(&all, "Deployment") {
            let what = name(deployment);
            let wanted = if what == "shop-email-sender" { sender } else { replicas };
            let env = as_started(container(deployment));
            assert_eq!(env["OTEL_RESOURCE_ATTRIBUTES"], wanted, "{what}");
        }
    }
}

#[test]
fn logs_are_for_machines_unless_somebody_wants_to_read_them() {
    let Some(helm) = helm() else { return };
    let human = "env.LOCKGATE_TELEMETRY_LOG_FORMAT=human";
    for (values, format) in [(&[][..], LogFormat::Json), (&[human][..], LogFormat::Human)] {
        let all = filled_in(&helm, KUBERNETES[1], values);
        for workload in of_kind(&all, "Deployment").chain(of_kind(&all, "Job")) {
            let what = name(workload);
            let config = names::hold(what, &env(container(workload)));
            assert_eq!(config.telemetry.log_format, format, "{what}");
        }
    }
}

#[test]
fn all_pods_are_scraped_as_one_job_where_that_is_wanted() {
    let Some(helm) = helm() else { return };
    let plain = filled_in(&helm, KUBERNETES[1], &[]);
    assert_eq!(of_kind(&plain, "PodMonitor").count(), 0);
    let values = [&ALL[..], &["monitoring.podMonitor.labels.release=prometheus"]].concat();
    let all = filled_in(&helm, KUBERNETES[1], &values);
    assert_eq!(of_kind(&all, "PodMonitor").count(), 1, "each is a job of its own");
    let monitor = of_kind(&all, "PodMonitor").next().unwrap();
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    let chosen = &monitor["spec"]["selector"]["matchLabels"];
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    assert_eq!(endpoint["path"], "/metrics");
    for deployment in of_kind(&all, "Deployment") {
        let what = name(deployment);
        assert!(!selector(chosen, &pod_labels(deployment)).is_null(), "{what}");
        let ports = container(deployment)["ports"].as_array().unwrap();
        assert!(ports.iter().any(|port| port["name"] == endpoint["port"]), "{what}");
    }
}

#[test]
fn whoever_would_count_everything_twice_is_told() {
    let Some(helm) = helm() else { return };
    let scraped = "monitoring.podMonitor.enabled=true";
    let sent = "env.OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318";
    for (values, is_told) in [
        (&[scraped, sent][..], true),
        (&[scraped, sent, "env.OTEL_METRICS_EXPORTER=otlp"][..], true),
        (&[scraped, sent, "env.OTEL_METRICS_EXPORTER=none"][..], false),
        (&[scraped][..], false),
        (&[sent][..], false),
    ] {
        let told = notes(&helm, values);
        assert_eq!(told.contains("counted twice"), is_told, "{values:?}: {told}");
    }
}
