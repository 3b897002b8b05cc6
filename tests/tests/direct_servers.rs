//! Direct commands on servers of their own, which are stopped, killed and frozen under them (R36.4).
#![allow(clippy::unwrap_used, clippy::panic)]

mod direct_support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use direct_support::*;
use lockgate::delivery::{Direct, NotificationOrchestrator, Waited};
use lockgate_tests::cluster::Cluster;
use lockgate_tests::own_servers::OwnServers;
use lockgate_tests::{free_port, wait_until};
use sqlx::Row;
use uuid::Uuid;

/// For servers that take their time on a busy machine.
const LONG: Duration = Duration::from_secs(90);

fn orchestrator(cluster: &Cluster) -> NotificationOrchestrator {
    let config = config(cluster.url(), cluster.topic.brokers(), cluster.topic.name());
    lockgate::orchestrator(&config, None).unwrap()
}

/// Every command is in the topic or in the table.
async fn nothing_is_missing(cluster: &Cluster, ids: &BTreeSet<Uuid>) {
    let sent: BTreeSet<Uuid> = records(cluster.topic.brokers(), cluster.topic.name())
        .await
        .into_keys()
        .collect();
    let stored = rows(&cluster.pool, None).await;
    assert_eq!(&(&sent | &stored), ids, "{} sent, {} stored", sent.len(), stored.len());
}

/// A broker that is back answers for its topic again.
async fn readable(cluster: &Cluster) {
    let client: rdkafka::consumer::BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", cluster.topic.brokers())
        .create()
        .unwrap();
    let name = cluster.topic.name().to_owned();
    wait_until(LONG, "the topic has its leaders", async || {
        let second = Duration::from_secs(1);
        (0..4).all(|partition| rdkafka::consumer::Consumer::fetch_watermarks(&client, &name, partition, second).is_ok())
    })
    .await;
}

/// Submits commands until the first is delivered: what a busy broker does not take at its first meeting is stored.
async fn until_delivered(orchestrator: &NotificationOrchestrator) -> BTreeSet<Uuid> {
    let mut ids = BTreeSet::new();
    wait_until(LONG, "a command goes to Kafka", async || {
        ids.extend(submit_all(orchestrator, 1));
        tokio::time::sleep(Duration::from_millis(200)).await;
        orchestrator.stats().delivered > 0
    })
    .await;
    wait_until(LONG, "all are placed", async || {
        placed(orchestrator) == ids.len() as u64
    })
    .await;
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_down_before_the_start_and_killed_under_way_loses_nothing() {
    let servers = OwnServers::up(&["kafka"]);
    let cluster = servers.cluster().await;
    servers.act("stop", "kafka");
    let down = orchestrator(&cluster);
    let mut ids = submit_all(&down, 5_000);
    wait_until(LONG, "all are stored", async || placed(&down) == 5_000).await;
    assert_eq!(rows(&cluster.pool, Some("due")).await, ids);
    assert_eq!(down.stop(LONG).await.unplaced, 0);
    servers.act("start", "kafka");
    readable(&cluster).await;

    let killed = orchestrator(&cluster);
    let probes = until_delivered(&killed).await;
    let mut submitted = probes.len() as u64;
    ids.extend(probes);
    for round in 0..20 {
        if round == 5 {
            servers.act("kill", "kafka");
        }
        ids.extend(submit_all(&killed, 500));
        submitted += 500;
    }
    wait_until(LONG, "all are placed", async || placed(&killed) == submitted).await;
    servers.act("start", "kafka");
    readable(&cluster).await;
    assert_eq!(killed.stop(LONG).await.unplaced, 0);
    nothing_is_missing(&cluster, &ids).await;
}

/// Nothing is rejected, nothing is missing, rows come in time, and nobody's breaker opens by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_into_a_frozen_broker_is_stored_in_time_and_settled_when_it_thaws() {
    let servers = OwnServers::up(&["kafka"]);
    let cluster = servers.cluster().await;
    let orchestrator = orchestrator(&cluster);
    let mut ids = until_delivered(&orchestrator).await;
    servers.act("freeze", "kafka");
    let begun = Instant::now();
    ids.extend(submit_all(&orchestrator, 30_000));
    wait_until(LONG, "all are stored", async || {
        placed(&orchestrator) == ids.len() as u64
    })
    .await;
    let took = begun.elapsed();
    println!("30,000 commands were stored {took:?} after a broker froze");
    // Each in less than the 30 s after which the producer gives up; a busy machine has its time for all of them.
    assert!(took < Duration::from_secs(60), "{took:?}");
    let stats = orchestrator.stats();
    assert!(stats.stalled && stats.not_accepted == 0, "{stats:?}");
    assert!(!stats.stored.contains_key("breaker_open"), "{stats:?}");
    servers.act("thaw", "kafka");
    wait_until(LONG, "what had arrived is settled and the way is open", async || {
        let stats = orchestrator.stats();
        stats.confirmed > 0 && !stats.stalled
    })
    .await;
    wait_until(LONG, "commands are sent again", async || {
        let command = Direct::new(email(1));
        ids.insert(command.message_id);
        // The broker may still be busy with what it was asked while it stood still.
        matches!(orchestrator.submit_and_wait(command).await, Waited::Delivered { .. })
    })
    .await;
    assert_eq!(orchestrator.stop(LONG).await.unplaced, 0);
    nothing_is_missing(&cluster, &ids).await;
    let sent = records(cluster.topic.brokers(), cluster.topic.name()).await;
    let settled = sqlx::query(
        "select message_id, kafka_partition, kafka_offset from lockgate.undelivered_messages where status = 'delivered'",
    );
    for row in settled.fetch_all(&cluster.pool).await.unwrap() {
        let place: (i32, i64) = (row.get(1), row.get(2));
        let copies = &sent[&row.get::<Uuid, _>(0)];
        assert!(copies.iter().any(|copy| (copy.partition, copy.offset) == place));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_restarted_while_commands_are_stored_loses_none() {
    let servers = OwnServers::up(&["postgres", "kafka"]);
    let cluster = servers.cluster().await;
    servers.act("stop", "kafka");
    let orchestrator = orchestrator(&cluster);
    let mut ids = submit_all(&orchestrator, 10_000);
    wait_until(LONG, "storing has begun", async || placed(&orchestrator) > 0).await;
    servers.act("kill", "postgres");
    ids.extend(submit_all(&orchestrator, 10_000));
    wait_until(LONG, "it is noticed", async || orchestrator.stats().store_failures > 0).await;
    servers.act("start", "postgres");
    wait_until(LONG, "all are stored", async || placed(&orchestrator) == 20_000).await;
    assert_eq!(rows(&cluster.pool, Some("due")).await, ids);
    assert_eq!(orchestrator.stop(LONG).await.unplaced, 0);
}

/// A broker with the standard authorizer, and a user who may do nothing unless he is named a super user.
fn properties(super_users: &str) -> String {
    format!(
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
         super.users={super_users}\n\
         sasl.enabled.mechanisms=PLAIN\n\
         listener.name.sasl_plaintext.plain.sasl.jaas.config=\
         org.apache.kafka.common.security.plain.PlainLoginModule required user_clerk=\"of the tests\";"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_the_brokers_do_not_allow_are_stored_and_go_once_they_are_allowed() {
    let port = free_port();
    let door = format!("127.0.0.1:{port}");
    let listener = format!("SASL_PLAINTEXT://{door}");
    let denied = properties("User:ANONYMOUS");
    let env = [
        ("KAFKA_LISTENER", listener.as_str()),
        ("KAFKA_PROPERTIES", denied.as_str()),
    ];
    let mut servers = OwnServers::up_with(&["kafka"], &env);
    let clerk = [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "clerk"),
        ("sasl.password", "of the tests"),
    ];
    let cluster = servers.cluster().await.patient().with("KAFKA_BROKERS", &door);
    let mut config = config(cluster.url(), &door, cluster.topic.name());
    config.kafka.properties = clerk.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let orchestrator = lockgate::orchestrator(&config, None).unwrap();
    let mut ids = submit_all(&orchestrator, 500);
    // Brokers that take longer to say no than commands wait for them have the first ones stored without a reason of theirs.
    wait_until(LONG, "the brokers have said why", async || {
        let stats = orchestrator.stats();
        let said = stats.stored.contains_key("not_authorised");
        if !said && placed(&orchestrator) == ids.len() as u64 {
            ids.extend(submit_all(&orchestrator, 1));
        }
        said
    })
    .await;
    wait_until(LONG, "all are stored", async || {
        placed(&orchestrator) == ids.len() as u64
    })
    .await;
    let due = rows(&cluster.pool, Some("due")).await;
    assert_eq!(due, ids, "none is refused for good: a right can be granted");
    assert_eq!(orchestrator.stop(LONG).await.unplaced, 0);

    let env = clerk.map(|(name, value)| {
        let name = name.replace('.', "_").to_uppercase();
        (format!("LOCKGATE_KAFKA_PROPERTIES_{name}"), value)
    });
    let env = env.each_ref().map(|(name, value)| (name.as_str(), *value));
    let mut kept_out = cluster.replica_with(&env);
    kept_out.says("not authorised for topic").await;
    assert!(
        !kept_out.ends().await.success(),
        "a replica that may send nothing starts"
    );
    servers.set("KAFKA_PROPERTIES", &properties("User:ANONYMOUS;User:clerk"));
    servers.act("stop", "kafka");
    servers.act("start", "kafka");
    readable(&cluster).await;
    let now = "update lockgate.undelivered_messages set next_attempt_at = clock_timestamp()";
    sqlx::query(now).execute(&cluster.pool).await.unwrap();
    let _replica = cluster.replica_with(&env);
    wait_until(LONG, "all are delivered", async || {
        rows(&cluster.pool, Some("delivered")).await == ids
    })
    .await;
    let attempts = "select max(attempts) from lockgate.undelivered_messages";
    let attempts: i32 = sqlx::query_scalar(attempts).fetch_one(&cluster.pool).await.unwrap();
    assert_eq!(attempts, 1, "being kept out costs no attempt");
    let sent = records(cluster.topic.brokers(), cluster.topic.name()).await;
    let copies: usize = sent.values().map(Vec::len).sum();
    let once_each = ids.len();
    assert_eq!((sent.into_keys().collect::<BTreeSet<_>>(), copies), (ids, once_each));
}
