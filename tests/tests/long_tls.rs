//! Postgres, Kafka and a mail server over TLS, with an authority made for the test: what is right goes through, and another
//! authority, another host or a wrong password does not.
#![allow(clippy::unwrap_used, clippy::panic)]

use lockgate_tests::certificates::{Authority, Certificate};
use lockgate_tests::cli::Program;
use lockgate_tests::cluster::{Cluster, program};
use lockgate_tests::mail_server::MailServer;
use lockgate_tests::mailroom::{Letter, Mailroom};
use lockgate_tests::own_servers::OwnServers;
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::{free_port, wait_until};
use serde_json::json;

const ITEMS: i64 = 3_000;

async fn sends_a_run(cluster: &Cluster) {
    let mut replica = cluster.replica();
    replica.runs().await;
    let run = cluster.start("chaos-items", json!({"items": ITEMS})).await;
    let found = cluster.completes(run).await;
    assert_eq!(found.fates["delivered"], ITEMS as usize, "{found}");
    replica.terminate();
    assert!(replica.ends().await.success());
}

fn postgres(certificate: &Certificate) -> OwnServers {
    certificate.for_server();
    let options = format!(
        "-c ssl=on -c ssl_cert_file={} -c ssl_key_file={}",
        certificate.certificate, certificate.key
    );
    OwnServers::up_with(&["postgres"], &[("PG_OPTS", options.as_str())])
}

/// The same database over TLS, at this host of this machine.
fn verified(url: &str, host: &str, mode: &str, authority: &Authority) -> String {
    let url = url.replace("@127.0.0.1:", &format!("@{host}:"));
    format!("{url}?sslmode={mode}&sslrootcert={}", authority.certificate())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_work_over_a_verified_connection_to_postgres() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let servers = postgres(&authority.signs("localhost"));
    let plain = servers.cluster().await.patient();
    let url = plain.url().to_owned();
    let cluster = plain.with("DATABASE_URL", &verified(&url, "localhost", "verify-full", &authority));
    let encrypted = "select count(*) from pg_stat_ssl s join pg_stat_activity a using (pid)
                      where a.backend_type = 'client backend' and s.ssl and $1::uuid is not null";
    let mut replica = cluster.replica();
    replica.runs().await;
    let any = uuid::Uuid::nil();
    wait_until(PATIENCE, "its connections are encrypted", async || {
        cluster.count(encrypted, any).await > 2
    })
    .await;
    replica.terminate();
    assert!(replica.ends().await.success());
    sends_a_run(&cluster).await;

    let chaos = program();
    let doctor = async |url: &str| {
        let program = Program::new(chaos.to_str().unwrap(), url);
        program.run(&["migrate", "status"]).await
    };
    doctor(&verified(&url, "localhost", "verify-full", &authority))
        .await
        .exits(0);
    for (host, mode, authority) in [
        ("localhost", "verify-full", &stranger),
        ("localhost", "verify-ca", &stranger),
        // The certificate is not one for this name.
        ("127.0.0.1", "verify-full", &authority),
    ] {
        let refused = doctor(&verified(&url, host, mode, authority)).await.exits(5);
        assert!(
            refused.err.to_lowercase().contains("certificate"),
            "{host} {mode}: {}",
            refused.err
        );
    }
    doctor(&verified(&url, "127.0.0.1", "verify-ca", &authority))
        .await
        .exits(0);
}

/// A broker with a door of TLS and SCRAM beside the plain one of the tests, for this user.
fn broker(port: u16, certificate: &Certificate) -> OwnServers {
    let listener = format!("SASL_SSL://localhost:{port}");
    let properties = format!(
        "sasl.enabled.mechanisms=SCRAM-SHA-512\n\
         ssl.keystore.type=PEM\n\
         ssl.keystore.location={}\n\
         listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
         org.apache.kafka.common.security.scram.ScramLoginModule required;",
        certificate.both
    );
    let env = [
        ("KAFKA_LISTENER", listener.as_str()),
        ("KAFKA_PROPERTIES", properties.as_str()),
        ("KAFKA_SCRAM", "clerk:geheim"),
    ];
    OwnServers::up_with(&["kafka"], &env)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_send_over_tls_after_a_login_by_scram() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let port = free_port();
    let servers = broker(port, &authority.signs("localhost"));
    let folder = std::env::temp_dir().join(format!("lockgate-passwords-{}", uuid::Uuid::new_v4().simple()));
    std::fs::create_dir(&folder).unwrap();
    let password = |name: &str, text: &str| {
        let file = folder.join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let property = |name: &str| format!("LOCKGATE_KAFKA_PROPERTIES_{name}");
    let cluster = servers
        .cluster()
        .await
        .patient()
        .with("KAFKA_BROKERS", &format!("localhost:{port}"))
        .with(&property("SECURITY_PROTOCOL"), "sasl_ssl")
        .with(&property("SSL_CA_LOCATION"), &authority.certificate())
        .with(&property("SASL_MECHANISM"), "SCRAM-SHA-512")
        .with(&property("SASL_USERNAME"), "clerk")
        .with(&property("SASL_PASSWORD_FILE"), &password("right", "geheim\n"));
    sends_a_run(&cluster).await;

    let ca = property("SSL_CA_LOCATION");
    let secret = property("SASL_PASSWORD_FILE");
    let wrong = password("wrong", "falsch");
    let elsewhere = format!("127.0.0.1:{port}");
    for (name, value, says) in [
        (ca.as_str(), stranger.certificate().as_str(), "certificate"),
        (secret.as_str(), wrong.as_str(), "authentication failed"),
        // The certificate is not one for this name.
        ("KAFKA_BROKERS", elsewhere.as_str(), "certificate"),
    ] {
        let mut replica = cluster.replica_called(&["run", "--wait", "30s"], &[(name, value)]);
        assert_eq!(replica.ends().await.code(), Some(5), "{}", replica.log());
        let log = replica.log().to_lowercase();
        assert!(log.contains(says), "{name}: no {says:?} in {log}");
        assert!(!log.contains("geheim") && !log.contains("falsch"), "{log}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// Mails go to a server whose certificate is of an authority that the sender trusts, and to no other.
async fn mails_go(scheme: &str, query: &str, options: impl Fn(&Certificate) -> Vec<String>) {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let certificate = authority.signs("localhost");
    let Some(server) = MailServer::find() else { return };
    let options = options(&certificate);
    let mut server = server.with(&options.iter().map(String::as_str).collect::<Vec<_>>());
    server.start().await;
    let url = std::env::temp_dir().join(format!("lockgate-smtp-{}", uuid::Uuid::new_v4().simple()));
    std::fs::write(&url, format!("{scheme}://localhost:{}{query}\n", server.port())).unwrap();
    let room = Mailroom::new().await.with("EMAIL_SMTP_URL_FILE", url.to_str().unwrap());
    room.post((0..20).map(Letter::to_user).collect()).await;

    let mistrusting = room.sender_with(&[("SSL_CERT_FILE", &stranger.certificate())]);
    wait_until(PATIENCE, "it says that it cannot send", async || {
        mistrusting.log().contains("no TLS connection to the server")
    })
    .await;
    assert_eq!(server.mails().len(), 0, "{}", mistrusting.log());
    mistrusting.terminate();
    drop(mistrusting);

    let _sender = room.sender_with(&[("SSL_CERT_FILE", &authority.certificate())]);
    let sent = "select count(*) from lockgate_mail.sent_emails where state = 'sent'";
    room.reaches(20, sent).await;
    assert_eq!(server.mails().len(), 20);
    std::fs::remove_file(url).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mails_go_by_starttls() {
    mails_go("smtp", "?tls=required", |certificate| {
        let options = ["--tlscert", &certificate.certificate, "--tlskey", &certificate.key];
        options.map(str::to_owned).to_vec()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mails_go_over_tls_from_the_first_byte() {
    mails_go("smtps", "", |certificate| {
        let options = ["--smtpscert", &certificate.certificate, "--smtpskey", &certificate.key];
        options.map(str::to_owned).to_vec()
    })
    .await;
}
