//! The compose file and what it mounts.

use std::collections::{BTreeMap, BTreeSet};

use lockgate::config::{Config, Sources};
use lockgate_tests::TestDatabase;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, raw_sql};

use crate::files::{document, is_pinned, path, port, seconds, stopping, stopping_sender, text};
use crate::{image, names};

const FILE: &str = "ops/docker/compose.yaml";
const COLLECTOR: &str = "ops/telemetry/collector.yaml";
const LOGINS: &str = "ops/docker/logins.sql";

fn services() -> BTreeMap<String, Value> {
    serde_json::from_value(document(FILE)["services"].clone()).unwrap()
}

/// Those that run our image.
fn ours() -> BTreeMap<String, Value> {
    let is_ours = |service: &Value| service["image"].as_str().unwrap().starts_with("lockgate:");
    let all = services().into_iter();
    all.filter(|(_, service)| is_ours(service)).collect()
}

fn env(service: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(service["environment"].clone()).unwrap()
}

fn words(list: &Value) -> Vec<String> {
    serde_json::from_value(list.clone()).unwrap_or_default()
}

/// What a service waits for, also by way of others.
fn needs(services: &BTreeMap<String, Value>, name: &str) -> BTreeSet<String> {
    let needed = services[name]["depends_on"].as_object().into_iter().flatten();
    needed
        .flat_map(|(next, _)| needs(services, next).into_iter().chain([next.clone()]))
        .collect()
}

/// Builds of one tag at once fail on a machine that has none, and a name that anybody may push is not to be pulled.
#[test]
fn the_image_is_built_once_before_all_that_run_it() {
    let (services, ours) = (services(), ours());
    assert_eq!(ours.len(), 6);
    let builders = services.iter().filter(|(_, service)| service.get("build").is_some());
    let builders: Vec<&String> = builders.map(|(name, _)| name).collect();
    let [builder] = builders[..] else {
        panic!("{builders:?}")
    };
    assert!(ours.contains_key(builder), "{builder}");
    let dockerfile = services[builder]["build"]["dockerfile"].as_str().unwrap();
    assert!(path(dockerfile).is_file(), "{dockerfile}");
    for (name, service) in &ours {
        assert_eq!(service["pull_policy"], "never", "{name}");
        assert!(
            name == builder || needs(&services, name).contains(builder),
            "{name} may start before {builder}"
        );
    }
}

#[test]
fn images_are_pinned_and_what_is_mounted_is_there() {
    for (name, service) in services() {
        let image = service["image"].as_str().unwrap();
        assert!(is_pinned(image), "{name}: {image}");
        for volume in words(&service["volumes"]) {
            let (volume, _) = volume.split_once(':').unwrap();
            if volume.starts_with('.') {
                assert!(path("ops/docker").join(volume).exists(), "{name}: {volume}");
            } else {
                assert!(document(FILE)["volumes"].get(volume).is_some(), "{name}: {volume}");
            }
        }
        for needed in service["depends_on"]
            .as_object()
            .into_iter()
            .flat_map(|needed| needed.keys())
        {
            assert!(services().contains_key(needed), "{name} waits for {needed}");
        }
    }
}

#[test]
fn three_replicas_and_the_sender_have_an_environment_that_holds() {
    let ours = ours();
    let replicas = ours.keys().filter(|name| name.starts_with("replica-")).count();
    assert_eq!(replicas, 3);
    let version = env!("CARGO_PKG_VERSION");
    for (name, service) in &ours {
        assert_eq!(service["image"], format!("lockgate:{version}"), "{name}");
        let mut env = env(service);
        for (variable, value) in env.clone() {
            let Some(secret) = value.strip_prefix("/run/secrets/") else {
                continue;
            };
            assert!(variable.ends_with("_FILE"), "{name}: {variable}");
            assert!(
                words(&service["secrets"]).contains(&secret.to_owned()),
                "{name}: {secret}"
            );
            let file = document(FILE)["secrets"][secret]["file"].as_str().unwrap().to_owned();
            let file = path("ops/docker").join(file.strip_prefix("./").unwrap());
            env.insert(variable, file.to_str().unwrap().to_owned());
        }
        let config = names::hold(name, &env);
        let sources = Sources {
            env,
            ..Sources::default()
        };
        let with_secrets = Config::load(&sources).unwrap().config;
        with_secrets.validate().unwrap();
        assert!(
            with_secrets
                .database_settings()
                .unwrap()
                .url
                .contains("@postgres:5432/")
        );
        let grace = seconds(service["stop_grace_period"].as_str().unwrap());
        let drain = config.drain.deadline.as_secs();
        let takes = match name == "email-sender" {
            true => stopping_sender(&names::lease_of_sender()),
            false => stopping(&format!("{drain}s")),
        };
        assert!(grace >= takes, "{name} is killed after {grace} s and may take {takes}");
        assert_eq!(
            (&service["read_only"], &service["cap_drop"][0]),
            (&Value::Bool(true), &"ALL".into())
        );
    }
}

#[test]
fn addresses_lead_to_services_that_listen_there() {
    let services = services();
    let kafka = env(&services["kafka"]);
    let listeners: Vec<&str> = kafka["KAFKA_LISTENERS"].split(',').collect();
    for (name, service) in ours() {
        let config = names::hold(&name, &env(&service));
        let brokers = config.kafka.brokers.unwrap();
        let (host, broker) = brokers.split_once(':').unwrap();
        assert!(services.contains_key(host), "{host}");
        assert!(
            listeners
                .iter()
                .any(|listener| listener.ends_with(&format!("//:{broker}")))
        );
        let collector = config.telemetry.otlp_endpoint.unwrap();
        let receivers = document(COLLECTOR);
        let listens = receivers["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
            .as_str()
            .unwrap();
        assert_eq!(collector.expose(), format!("http://collector:{}", port(listens)));
        let listens: BTreeSet<u64> = [config.api.listen, config.health.listen]
            .iter()
            .flatten()
            .map(|listen| port(listen))
            .collect();
        assert!(listens.iter().all(|port| image::exposed().contains(port)));
        for published in words(&service["ports"]) {
            assert!(
                listens.contains(&port(&published)),
                "{name}: nobody listens at {published}"
            );
            assert!(published.starts_with("127.0.0.1:"), "{published} is open to all");
        }
    }
}

/// What is tried here and what is started there are the same releases.
#[test]
fn servers_are_those_that_the_tests_have() {
    let services = services();
    let tag = |service: &str| {
        services[service]["image"]
            .as_str()
            .unwrap()
            .rsplit_once(':')
            .unwrap()
            .1
            .to_owned()
    };
    let (tools, kafka) = (text("ops/dev/telemetry-tools.sh"), text("ops/dev/kafka.sh"));
    assert!(
        kafka.contains(&format!("kafka_version={}\n", tag("kafka"))),
        "{}",
        tag("kafka")
    );
    let collector = tag("collector");
    assert!(
        tools.contains(&format!("collector_version=v{collector} ")),
        "{collector}"
    );
    // The Go module of Prometheus 3.7 is v0.307.
    let prometheus = tag("prometheus");
    let [minor, patch] = prometheus.strip_prefix("v3.").unwrap().split('.').collect::<Vec<_>>()[..] else {
        panic!("{prometheus}")
    };
    assert!(
        tools.contains(&format!("prometheus_version=v0.3{minor:0>2}.{patch}\n")),
        "{prometheus}"
    );
}

/// Postgres is healthy when it answers where others ask it, and Kafka's data is where it outlives a container.
#[test]
fn servers_are_asked_where_they_stay_and_keep_what_they_have() {
    let services = services();
    let asked = words(&services["postgres"]["healthcheck"]["test"]);
    assert!(
        asked.windows(2).any(|pair| pair == ["-h", "127.0.0.1"]),
        "{asked:?}: by the socket the server answers that is there for its first start only"
    );
    let folder = env(&services["kafka"])["KAFKA_LOG_DIRS"].clone();
    assert_eq!(words(&services["kafka"]["volumes"]), [format!("kafka:{folder}")]);
}

#[test]
fn the_topics_of_the_configuration_are_made() {
    let made = words(&services()["topics"]["command"]);
    let at = made.iter().position(|word| word == "--topic").unwrap();
    let config = Config::default();
    assert_eq!(config.topics.values().collect::<Vec<_>>(), [&made[at + 1]]);
}

#[test]
fn pipelines_name_parts_that_are_there() {
    let collector = document(COLLECTOR);
    let pipelines = collector["service"]["pipelines"].as_object().unwrap();
    assert_eq!(pipelines.len(), 3);
    for (signal, pipeline) in pipelines {
        for kind in ["receivers", "processors", "exporters"] {
            for part in words(&pipeline[kind]) {
                assert!(collector[kind].get(&part).is_some(), "{signal}: {part}");
            }
        }
    }
    let prometheus = &services()["prometheus"];
    let command = words(&prometheus["command"]);
    assert!(command.contains(&"--web.enable-otlp-receiver".to_owned()));
    let target = collector["exporters"]["otlp_http/prometheus"]["endpoint"]
        .as_str()
        .unwrap();
    let url = env(&services()["grafana"])["LOCKGATE_PROMETHEUS_URL"].clone();
    assert_eq!(target, format!("{url}/api/v1/otlp"));
    assert!(
        words(&prometheus["ports"])
            .iter()
            .any(|published| port(published) == port(&url))
    );
}

#[test]
fn prometheus_finds_its_rules_and_grafana_its_sources_and_dashboards() {
    let services = services();
    let mounted = |name: &str| -> BTreeMap<String, String> {
        let mounts = words(&services[name]["volumes"]).into_iter();
        let parts = mounts.map(|mount| mount.split(':').map(str::to_owned).collect::<Vec<_>>());
        parts.map(|parts| (parts[1].clone(), parts[0].clone())).collect()
    };
    let rules = document("ops/prometheus/prometheus.yaml")["rule_files"][0]
        .as_str()
        .unwrap()
        .to_owned();
    let folder = format!("/etc/prometheus/{}", rules.split('/').next().unwrap());
    let from = path("ops/docker").join(&mounted("prometheus")[&folder]);
    assert!(from.join(rules.split('/').next_back().unwrap()).is_file(), "{folder}");

    let grafana = mounted("grafana");
    let provisioning = path("ops/docker").join(&grafana["/etc/grafana/provisioning"]);
    assert!(provisioning.join("alerting/lockgate.yaml").is_file());
    let provider = &document("ops/grafana/provisioning/dashboards/lockgate.yaml")["providers"][0]["options"]["path"];
    let dashboards = path("ops/docker").join(&grafana[provider.as_str().unwrap()]);
    assert_eq!(std::fs::read_dir(dashboards).unwrap().count(), 8);

    let sources = text("ops/grafana/provisioning/datasources/lockgate.yaml");
    let given = env(&services["grafana"]);
    let wanted: Vec<&str> = sources
        .split('$')
        .skip(1)
        .map(|rest| rest.split(['\n', '"']).next().unwrap())
        .collect();
    assert_eq!(wanted.len(), 5, "{wanted:?}");
    assert!(wanted.iter().all(|name| given.contains_key(*name)), "{wanted:?}");
    assert_gets("lockgate_reader", &given["LOCKGATE_READER_PASSWORD"]);
}

/// Whoever logs in by that role has that password.
fn assert_gets(login: &str, password: &str) {
    let statement = format!("alter role {login} password '{password}';\n");
    assert!(text(LOGINS).contains(&statement), "{login}");
}

/// What a file of secrets holds.
fn secret(name: &str) -> String {
    let file = document(FILE)["secrets"][name]["file"].as_str().unwrap().to_owned();
    let file = format!("ops/docker/{}", file.strip_prefix("./").unwrap());
    text(&file).trim().to_owned()
}

/// What runs for long may only read and write rows, and nothing has the URL of more than it logs in by.
#[test]
fn each_logs_in_as_the_least_that_suffices() {
    for (name, service) in ours() {
        let wanted = match name.as_str() {
            "roles" => "postgres",
            "migrate" => "lockgate_migrator",
            _ => "lockgate_engine",
        };
        let given = words(&service["secrets"]);
        let urls: Vec<&String> = given.iter().filter(|secret| secret.ends_with("-url")).collect();
        let [url] = urls[..] else { panic!("{name}: {urls:?}") };
        let said = env(&service)["DATABASE_URL_FILE"].clone();
        assert_eq!(said, format!("/run/secrets/{url}"), "{name}");
        let url = secret(url);
        let (login, rest) = url.strip_prefix("postgres://").unwrap().split_once(':').unwrap();
        assert_eq!(login, wanted, "{name}");
        let password = rest.split('@').next().unwrap();
        if login == "postgres" {
            let postgres = env(&services()["postgres"]);
            assert_eq!(password, postgres["POSTGRES_PASSWORD"]);
            assert_eq!(password, env(&services()["logins"])["PGPASSWORD"]);
        } else {
            assert_gets(login, password);
        }
    }
}

/// Also on a volume that was filled before: no script of the image's first start is run on that.
#[test]
fn logins_are_made_at_each_start_between_the_roles_and_the_schema() {
    let services = services();
    assert!(needs(&services, "logins").contains("roles"));
    assert!(needs(&services, "migrate").contains("logins"));
    for needed in ["roles", "logins", "migrate"] {
        for (name, service) in &services {
            let when = &service["depends_on"][needed]["condition"];
            assert!(
                when.is_null() || when == "service_completed_successfully",
                "{name} does not wait for the end of {needed}"
            );
        }
    }
    let logins = &services["logins"];
    let mounted = words(&logins["volumes"]);
    assert_eq!(mounted, ["./logins.sql:/logins.sql:ro"]);
    let command = words(&logins["command"]);
    assert!(command.ends_with(&["-f".to_owned(), "/logins.sql".to_owned()]));
    assert!(command.contains(&"ON_ERROR_STOP=1".to_owned()), "{command:?}");
    assert_eq!(logins["image"], services["postgres"]["image"]);
    let first = words(&services["postgres"]["volumes"]);
    assert!(!first.iter().any(|mount| mount.contains("initdb")), "{first:?}");
}

/// Done twice to what an earlier file left, a schema of e-mails that is the superuser's, and taken back: roles are
/// those of all tests.
#[tokio::test]
async fn logins_have_what_they_need_however_often_they_are_made() {
    let database = TestDatabase::empty().await;
    let pool = database.pool();
    lockgate_workflows::email_sender::create(pool).await.unwrap();
    let alone = TestDatabase::changing_roles().await;
    let mut tried = pool.begin().await.unwrap();
    for _ in 0..2 {
        tried.execute(raw_sql(AssertSqlSafe(text(LOGINS)))).await.unwrap();
    }
    let asked = "select array[
            (select count(*) = 3 from pg_authid where rolcanlogin and rolpassword is not null
                and rolname in ('lockgate_migrator', 'lockgate_engine', 'lockgate_reader')),
            has_database_privilege('lockgate_owner', current_database(), 'create'),
            has_schema_privilege('lockgate_engine', 'lockgate_mail', 'create'),
            (select pg_get_userbyid(relowner) = 'lockgate_engine' from pg_class
                where oid = 'lockgate_mail.sent_emails'::regclass)]";
    let has: Vec<bool> = sqlx::query_scalar(asked).fetch_one(&mut *tried).await.unwrap();
    tried.rollback().await.unwrap();
    alone.close().await.unwrap();
    assert_eq!(has, [true; 4]);
}
