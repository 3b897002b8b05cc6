//! The chart, filled in by a real helm.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use lockgate::config::{Config, Sources};
use lockgate_tests::{TestDatabase, skipped};
use serde_json::Value;
use sqlx::AssertSqlSafe;

use crate::files::{documents, is_pinned, path, stopping, stopping_sender, text};
use crate::names;

pub const CHART: &str = "ops/helm/lockgate";
/// The oldest that the chart takes, and one of today.
pub const KUBERNETES: [&str; 2] = ["1.27.0", "1.34.0"];
/// What has no default: no image is published.
const IMAGE: &str = "image.repository=registry.example.org/lockgate";
/// Everything that can be switched on.
pub const ALL: [&str; 10] = [
    "autoscaling.enabled=true",
    "emailSender.replicas=2",
    "emailSender.secretFiles.EMAIL_SMTP_URL_FILE=smtp-url",
    "secretFiles.LOCKGATE_API_TOKEN_FILE=api-token",
    "certificateFiles.ca=ca.pem",
    "migration.secretFiles.DATABASE_URL_FILE=migrator-url",
    "env.OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318",
    "monitoring.podMonitor.enabled=true",
    "tolerations[0].operator=Exists",
    "podAnnotations.mesh=joined",
];

/// A helm; none where it cannot be had, which is said once a test.
pub fn helm() -> Option<String> {
    let output = Command::new(path("ops/dev/helm.sh")).output().unwrap();
    if output.status.code() == Some(3) {
        let why = String::from_utf8_lossy(&output.stderr);
        let why = why.lines().last().unwrap_or_default();
        skipped(&format!("the chart was not filled in: {why}"));
        return None;
    }
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

pub fn run(helm: &str, verb: &[&str], kubernetes: &str, values: &[&str]) -> Output {
    run_on(&path(CHART), helm, verb, kubernetes, values)
}

pub fn run_on(chart: &Path, helm: &str, verb: &[&str], kubernetes: &str, values: &[&str]) -> Output {
    let mut command = Command::new(helm);
    command.args(verb).arg(chart).args(["--kube-version", kubernetes]);
    for value in [IMAGE].iter().chain(values) {
        command.args(["--set", value]);
    }
    command.output().unwrap()
}

pub fn filled_in(helm: &str, kubernetes: &str, values: &[&str]) -> Vec<Value> {
    filled_in_as("shop", helm, kubernetes, values)
}

pub fn filled_in_as(release: &str, helm: &str, kubernetes: &str, values: &[&str]) -> Vec<Value> {
    let output = run(helm, &["template", release], kubernetes, values);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    documents(CHART, &String::from_utf8(output.stdout).unwrap())
}

pub fn of_kind<'a>(all: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    all.iter().filter(move |document| document["kind"] == kind)
}

pub fn name(document: &Value) -> &str {
    document["metadata"]["name"].as_str().unwrap()
}

pub fn container(workload: &Value) -> &Value {
    let containers = workload["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1);
    &containers[0]
}

/// What a variable is set to; what the cluster alone knows is the name of its field in angle brackets.
pub fn value(variable: &Value) -> String {
    match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
        Some(field) => format!("<{field}>"),
        None => variable["value"].as_str().unwrap().to_owned(),
    }
}

pub fn env(container: &Value) -> BTreeMap<String, String> {
    let pairs = container["env"].as_array().unwrap().iter();
    let env: BTreeMap<String, String> = pairs
        .clone()
        .map(|pair| (pair["name"].as_str().unwrap().to_owned(), value(pair)))
        .collect();
    assert_eq!(env.len(), pairs.len(), "a variable is set twice");
    env
}

/// What holds of everything that runs.
fn hold_pod(workload: &Value) -> (BTreeMap<String, String>, Config) {
    let what = name(workload);
    let pod = &workload["spec"]["template"]["spec"];
    let container = container(workload);
    let image = container["image"].as_str().unwrap();
    assert!(is_pinned(image), "{what}: {image}");
    assert!(pod["securityContext"]["runAsUser"].as_u64().unwrap() > 0);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let security = &container["securityContext"];
    assert_eq!(security["readOnlyRootFilesystem"], true, "{what}");
    assert_eq!(security["allowPrivilegeEscalation"], false, "{what}");
    assert_eq!(security["capabilities"]["drop"][0], "ALL", "{what}");
    let env = env(container);
    let volumes = pod["volumes"].as_array().unwrap();
    let secret = volumes.iter().find(|volume| volume["name"] == "secrets").unwrap();
    let files: Vec<&str> = secret["secret"]["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["path"].as_str().unwrap())
        .collect();
    for (variable, value) in env.iter().filter(|(variable, _)| variable.ends_with("_FILE")) {
        let file = value.strip_prefix("/etc/lockgate/secrets/").unwrap();
        assert!(
            files.contains(&file),
            "{what}: {variable} points at {value}, mounted are {files:?}"
        );
    }
    for mount in container["volumeMounts"].as_array().unwrap() {
        assert!(
            volumes.iter().any(|volume| volume["name"] == mount["name"]),
            "{what}: {mount}"
        );
    }
    let config = names::hold(what, &env);
    (env, config)
}

/// Probes ask for what is told where it is told, and nobody is killed while it drains.
pub fn hold_deployment(deployment: &Value) {
    let what = name(deployment);
    let (env, config) = hold_pod(deployment);
    let pod = &deployment["spec"]["template"]["spec"];
    let container = container(deployment);
    let ports: BTreeMap<&str, u64> = container["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| (port["name"].as_str().unwrap(), port["containerPort"].as_u64().unwrap()))
        .collect();
    let listens = |listen: &Option<String>| listen.as_deref().map(crate::files::port);
    assert_eq!(listens(&config.health.listen), Some(ports["health"]), "{what}");
    assert_eq!(listens(&config.api.listen), ports.get("api").copied(), "{what}");
    for kind in ["livenessProbe", "startupProbe", "readinessProbe"] {
        let asked = &container[kind]["httpGet"];
        let told = match (asked["port"].as_str().unwrap(), asked["path"].as_str().unwrap()) {
            ("health", "/health/live") => kind != "readinessProbe",
            ("health", "/health/ready") | ("api", "/readyz") => kind == "readinessProbe",
            _ => false,
        };
        assert!(
            told && ports.contains_key(asked["port"].as_str().unwrap()),
            "{what}: {asked}"
        );
    }
    let before = match container["lifecycle"]["preStop"]["exec"]["command"].as_array() {
        Some(command) => command[1].as_str().unwrap().parse().unwrap(),
        None => 0,
    };
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    // What a replica takes is bounded by its drain, what email-sender takes by a lease.
    let takes = match env.get("EMAIL_LEASE") {
        Some(lease) => stopping_sender(lease),
        None => stopping(&env["LOCKGATE_DRAIN_DEADLINE"]),
    };
    let needed = before + takes;
    assert!(
        grace >= needed,
        "{what} is killed after {grace} s and may take {needed}"
    );
    let labels = &pod_labels(deployment);
    assert_eq!(
        &selector(&deployment["spec"]["selector"]["matchLabels"], labels),
        labels,
        "{what}"
    );
}

/// What is said of the place of pods and of their annotations holds of all of them, and none may take what it likes.
fn hold_place(workload: &Value, is_said: bool) {
    let (what, template) = (name(workload), &workload["spec"]["template"]);
    assert_eq!(
        template["spec"]["tolerations"][0]["operator"] == "Exists",
        is_said,
        "{what}"
    );
    assert_eq!(
        template["metadata"]["annotations"]["mesh"].is_null(),
        !is_said,
        "{what}"
    );
    assert!(
        container(workload)["resources"]["limits"]["memory"].is_string(),
        "{what}"
    );
}

/// A migration that fails says so before helm gives it up, after 300 seconds by itself; all its tries come to pass.
fn hold_patience(job: &Value) {
    let number = |key: &str| job[key].as_u64().unwrap();
    let deadline = number("activeDeadlineSeconds");
    assert!(deadline < 300, "{deadline} s");
    // Ten seconds before the second, and each time twice as many.
    let pauses = 10 * ((1_u64 << number("backoffLimit")) - 1);
    assert!(pauses < deadline / 2, "it pauses for {pauses} s of {deadline}");
}

pub fn pod_labels(deployment: &Value) -> Value {
    deployment["spec"]["template"]["metadata"]["labels"].clone()
}

/// The labels, if the selector chooses them.
pub fn selector(selector: &Value, labels: &Value) -> Value {
    let chosen = selector
        .as_object()
        .unwrap()
        .iter()
        .all(|(key, value)| &labels[key] == value);
    if chosen { labels.clone() } else { Value::Null }
}

#[test]
fn it_lints_and_what_it_makes_goes_together() {
    let Some(helm) = helm() else { return };
    for kubernetes in KUBERNETES {
        for values in [&[][..], &ALL] {
            let linted = run(&helm, &["lint", "--strict"], kubernetes, values);
            assert!(linted.status.success(), "{}", String::from_utf8_lossy(&linted.stdout));
            let all = filled_in(&helm, kubernetes, values);
            let deployments: Vec<&Value> = of_kind(&all, "Deployment").collect();
            assert_eq!(deployments.len(), if values.is_empty() { 3 } else { 4 });
            deployments.iter().for_each(|deployment| hold_deployment(deployment));
            let jobs: Vec<&Value> = of_kind(&all, "Job").collect();
            assert_eq!(jobs.len(), 1);
            for workload in deployments.iter().chain(&jobs) {
                hold_place(workload, !values.is_empty());
            }
            let hook = &jobs[0]["metadata"]["annotations"]["helm.sh/hook"];
            assert_eq!(hook, "pre-install,pre-upgrade");
            assert_eq!(container(jobs[0])["args"], serde_json::json!(["migrate", "up"]));
            hold_patience(&jobs[0]["spec"]);
            let (env, _) = hold_pod(jobs[0]);
            let url = if values.is_empty() {
                "database-url"
            } else {
                "migrator-url"
            };
            assert_eq!(env["DATABASE_URL_FILE"], format!("/etc/lockgate/secrets/{url}"));
            assert_eq!(env.contains_key("OTEL_EXPORTER_OTLP_ENDPOINT"), !values.is_empty());
            for deployment in &deployments {
                let env = self::env(container(deployment));
                assert_eq!(env["DATABASE_URL_FILE"], "/etc/lockgate/secrets/database-url");
            }
            for budget in of_kind(&all, "PodDisruptionBudget") {
                let chosen = deployments.iter().any(|deployment| {
                    !selector(&budget["spec"]["selector"]["matchLabels"], &pod_labels(deployment)).is_null()
                });
                assert!(chosen, "{} protects nobody", name(budget));
            }
            assert_eq!(of_kind(&all, "PodDisruptionBudget").count(), deployments.len());
            let service = of_kind(&all, "Service").next().unwrap();
            let api = deployments
                .iter()
                .find(|deployment| name(deployment) == name(service))
                .unwrap();
            assert!(!selector(&service["spec"]["selector"], &pod_labels(api)).is_null());
            assert_eq!(service["spec"]["ports"][0]["targetPort"], "api");
        }
    }
}

#[test]
fn workers_are_scaled_by_one_hand() {
    let Some(helm) = helm() else { return };
    let plain = filled_in(&helm, KUBERNETES[1], &[]);
    assert_eq!(of_kind(&plain, "ScaledObject").count(), 0);
    let worker = |all: &[Value]| {
        of_kind(all, "Deployment")
            .find(|one| name(one) == "shop-worker")
            .cloned()
            .unwrap()
    };
    assert_eq!(worker(&plain)["spec"]["replicas"], 3);
    let all = filled_in(&helm, KUBERNETES[1], &ALL);
    assert!(
        worker(&all)["spec"]["replicas"].is_null(),
        "helm and KEDA would both set it"
    );
    let scaled = of_kind(&all, "ScaledObject").next().unwrap();
    assert_eq!(scaled["spec"]["scaleTargetRef"]["name"], "shop-worker");
    let trigger = &scaled["spec"]["triggers"][0];
    assert_eq!(
        trigger["metadata"]["query"],
        text(&format!("{CHART}/files/queue-depth.sql")).trim()
    );
    let access = of_kind(&all, "TriggerAuthentication").next().unwrap();
    assert_eq!(name(access), trigger["authenticationRef"]["name"].as_str().unwrap());
    let key = |access: &Value| access["spec"]["secretTargetRef"][0]["key"].clone();
    assert_eq!(key(access), "database-url");
    let own = [&ALL[..], &["autoscaling.databaseUrlKey=keda-url"]].concat();
    let own = filled_in(&helm, KUBERNETES[1], &own);
    assert_eq!(key(of_kind(&own, "TriggerAuthentication").next().unwrap()), "keda-url");
    let calm = &scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"];
    assert_eq!(calm["stabilizationWindowSeconds"], 300);
}

#[test]
fn its_configuration_file_is_one_that_the_code_takes() {
    let Some(helm) = helm() else { return };
    let indented = "config=  [topics]\n  email = \"mails\"\n";
    for (values, topic) in [(&[][..], "email_commands"), (&[indented][..], "mails")] {
        let all = filled_in(&helm, KUBERNETES[1], values);
        let file = of_kind(&all, "ConfigMap").next().unwrap()["data"]["lockgate.toml"]
            .as_str()
            .unwrap();
        let place = std::env::temp_dir().join(format!("lockgate-chart-{}.toml", uuid::Uuid::new_v4()));
        std::fs::write(&place, file).unwrap();
        let loaded = Config::load(&Sources {
            file: Some(place.clone()),
            ..Sources::default()
        });
        std::fs::remove_file(place).unwrap();
        let config = loaded.unwrap().config;
        config.validate().unwrap();
        assert_eq!(config.topics["email"], topic);
    }
}

#[tokio::test]
async fn what_waits_is_what_workers_are_scaled_by() {
    let database = TestDatabase::new().await;
    let query = text(&format!("{CHART}/files/queue-depth.sql"));
    let waiting = async || -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query.clone()))
            .fetch_one(database.pool())
            .await
            .unwrap()
    };
    assert_eq!(waiting().await, 0);
    for _ in 0..3 {
        sqlx::query("select lockgate.start_run('w', '{}')")
            .execute(database.pool())
            .await
            .unwrap();
    }
    sqlx::query("select lockgate.start_run('w', '{}', start_at => now() + interval '1 hour')")
        .execute(database.pool())
        .await
        .unwrap();
    assert_eq!(waiting().await, 3, "what is not due waits for nobody");
}
