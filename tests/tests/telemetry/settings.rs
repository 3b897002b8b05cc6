//! The standard variables, as processes heed them.

use std::sync::Arc;

use lockgate_tests::certificates::{Authority, Certificate};
use lockgate_tests::cli::Program;
use lockgate_tests::cluster::program;
use lockgate_tests::collector::Collector;
use lockgate_tests::probes::Probes;
use serde_json::json;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

use crate::support::{cluster, file, waiting};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_is_called_and_how_it_sends_is_said_by_the_standard_variables() {
    let collector = Collector::start().await;
    let mut replica = waiting(
        &collector,
        &[
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer CANARY-HEADER"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_SERVICE_NAME", "mine"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ],
    );
    collector
        .wait_for("metrics and the warning have come", |seen| {
            !seen.points("process.cpu.time").is_empty() && !seen.events("otel_variable_ignored").is_empty()
        })
        .await;
    replica.terminate();
    assert!(replica.ends().await.success());
    let log = replica.log();
    assert!(
        log.contains("OTEL_EXPORTER_OTLP_PROTOCOL") && log.contains("4318"),
        "{log}"
    );
    assert!(!log.contains("CANARY"), "{log}");
    let seen = collector.seen();
    let sent = ("authorization".to_owned(), "Bearer CANARY-HEADER".to_owned());
    assert!(seen.headers.contains(&sent), "{:?}", seen.headers);
    assert!(seen.packed > 0);
    for resource in &seen.resources {
        assert_eq!(resource["service.name"], "mine");
        assert_eq!(resource["deployment.environment"], "test");
        assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(resource["service.instance.id"].len(), 36);
        assert_eq!(resource["lockgate.roles"], "leader,worker");
        assert!(!resource["host.name"].is_empty());
    }
    assert!(!seen.raw.windows(6).any(|bytes| bytes == b"CANARY"));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_come_from_files_too_and_those_of_a_signal_are_all_that_it_has() {
    let collector = Collector::start().await;
    let of_all = file("authorization=Bearer%20CANARY-ALL\n");
    let of_logs = file("x-key=CANARY-LOGS");
    let warned_of = ("OTEL_TRACES_SAMPLER", "jaeger_remote");
    let all = ("OTEL_EXPORTER_OTLP_HEADERS_FILE", of_all.as_str());
    let own = ("OTEL_EXPORTER_OTLP_LOGS_HEADERS_FILE", of_logs.as_str());
    let mut replica = waiting(&collector, &[all, own, warned_of]);
    collector
        .wait_for("metrics and logs have come", |seen| {
            seen.metric_exports > 0 && !seen.logs.is_empty()
        })
        .await;
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    for sent in [
        header("authorization", "Bearer CANARY-ALL"),
        header("x-key", "CANARY-LOGS"),
    ] {
        let headers = collector.seen().headers.clone();
        assert!(headers.contains(&sent), "{headers:?}");
    }
    replica.terminate();
    assert!(replica.ends().await.success());
    assert!(!replica.log().contains("CANARY"), "{}", replica.log());
    // Nothing but logs: what the variable says is of all signals but theirs.
    let collector = Collector::start().await;
    let variable = ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=CANARY-VARIABLE");
    let packed = ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip");
    let off = [("OTEL_METRICS_EXPORTER", "none"), ("OTEL_TRACES_EXPORTER", "none")];
    let _replica = waiting(&collector, &[variable, own, packed, off[0], off[1], warned_of]);
    collector
        .wait_for("logs have come", |seen| !seen.logs.is_empty() && seen.packed > 0)
        .await;
    let headers = collector.seen().headers.clone();
    assert!(headers.contains(&header("x-key", "CANARY-LOGS")), "{headers:?}");
    assert!(headers.iter().all(|(name, _)| name != "authorization"), "{headers:?}");
    assert!(
        headers.contains(&header("content-type", "application/x-protobuf")),
        "{headers:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_span_of_ours_may_hold_is_limited_by_the_standard_variables() {
    let collector = Collector::start().await;
    let cluster = cluster(&collector)
        .await
        .with("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "9")
        .with("OTEL_SPAN_EVENT_COUNT_LIMIT", "1");
    let _replica = cluster.replica();
    let run = cluster.start("chaos-items", json!({"items": 3})).await;
    cluster.completes(run).await;
    collector
        .wait_for("the run's spans have come", |seen| {
            ["send ", "run "].iter().all(|name| !seen.spans_called(name).is_empty())
        })
        .await;
    let seen = collector.seen();
    let run = &seen.spans_called("run ")[0];
    assert_eq!(run.attributes["lockgate.workflow"], "chaos-ite");
    let texts = seen.spans.iter().flat_map(|span| span.attributes.values());
    assert!(texts.clone().count() > 9 && texts.clone().all(|text| text.len() <= 9));
    assert_eq!(seen.spans_called("send ")[0].events, ["read"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_is_switched_off_is_not_sent() {
    let collector = Collector::start().await;
    let off = [
        ("OTEL_METRICS_EXPORTER", "none"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
    ];
    let mut replica = waiting(&collector, &off);
    collector
        .wait_for("the warning has come", |seen| {
            !seen.events("otel_variable_ignored").is_empty()
        })
        .await;
    let scraped = Probes::of(&mut replica).await.metrics().await;
    assert!(scraped.contains("process_cpu_time_seconds_total{"), "{scraped}");
    replica.terminate();
    assert!(replica.ends().await.success());
    assert_eq!(collector.seen().metric_exports, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_told_to_sends_nothing_and_is_scraped_all_the_same() {
    let collector = Collector::start().await;
    let mut replica = waiting(&collector, &[("OTEL_SDK_DISABLED", "true")]);
    let scraped = Probes::of(&mut replica).await.metrics().await;
    assert!(scraped.contains("process_memory_usage_bytes{"), "{scraped}");
    replica.terminate();
    assert!(replica.ends().await.success());
    let seen = collector.seen();
    assert!(seen.raw.is_empty() && seen.refused == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_is_trusted_by_the_authority_that_is_named() {
    let authority = Authority::new();
    let collector = Collector::start_with(Some(speaks_tls(&authority, None))).await;
    let mut stranger = waiting(&collector, &[]);
    stranger.says("telemetry_not_taken").await;
    stranger.says("tls").await;
    assert_eq!(collector.seen().metric_exports, 0);
    drop(stranger);
    let trusted = authority.certificate();
    let _replica = waiting(&collector, &[("OTEL_EXPORTER_OTLP_CERTIFICATE", &trusted)]);
    collector
        .wait_for("metrics have come", |seen| seen.metric_exports > 0)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_is_shown_the_certificate_that_is_named() {
    let (authority, of_clients) = (Authority::new(), Authority::new());
    let collector = Collector::start_with(Some(speaks_tls(&authority, Some(&of_clients)))).await;
    let trusted = authority.certificate();
    let trusts = ("OTEL_EXPORTER_OTLP_CERTIFICATE", trusted.as_str());
    let own = of_clients.signs_client("replica");
    let shows = |own: &Certificate| {
        [
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", own.certificate.clone()),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", own.key.clone()),
        ]
    };
    // One that shows nothing, and one that shows what somebody else has signed.
    for strange in [None, Some(authority.signs_client("stranger"))] {
        let shown: Vec<_> = strange.iter().flat_map(shows).collect();
        let shown = shown.iter().map(|(name, value)| (*name, value.as_str()));
        let mut stranger = waiting(&collector, &shown.chain([trusts]).collect::<Vec<_>>());
        stranger.says("telemetry_not_taken").await;
        stranger.says("error_class=\"tls\"").await;
        assert_eq!(collector.seen().metric_exports, 0);
    }
    let shown = shows(&own);
    let shown = shown.iter().map(|(name, value)| (*name, value.as_str()));
    let _replica = waiting(&collector, &shown.chain([trusts]).collect::<Vec<_>>());
    collector
        .wait_for("metrics have come", |seen| seen.metric_exports > 0)
        .await;
}

/// What a server speaks that this authority has signed, to anybody or to those that the other one has signed.
fn speaks_tls(authority: &Authority, clients: Option<&Authority>) -> TlsAcceptor {
    let certificate = authority.signs("localhost");
    let read = |path: &str| {
        let chain = CertificateDer::pem_file_iter(path).unwrap();
        chain.collect::<Result<Vec<_>, _>>().unwrap()
    };
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(read(&clients.certificate()));
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::from_pem_file(&certificate.key).unwrap();
    let config = builder.with_single_cert(read(&certificate.certificate), key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cannot_be_read_is_said_and_the_process_goes_on() {
    let collector = Collector::start().await;
    let named = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://localhost:1"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem"),
    ];
    let mut replica = waiting(&collector, &named);
    replica.says("otlp_refused").await;
    let probes = Probes::of(&mut replica).await;
    assert!(probes.is_live().await);
    let log = replica.log();
    assert_eq!(log.matches("otlp_refused").count(), 3, "one a signal: {log}");
    assert!(log.contains("/nowhere/ca.pem cannot be read"), "{log}");
    replica.terminate();
    assert!(replica.ends().await.success());
}

#[tokio::test]
async fn headers_are_not_shown() {
    let program = Program::without_database(program().to_str().unwrap());
    let program = program.env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=CANARY-HEADER");
    let of_logs = file("authorization=CANARY-FILE");
    let program = program.env("OTEL_EXPORTER_OTLP_LOGS_HEADERS_FILE", &of_logs);
    let shown = program.run(&["config", "show", "--origin"]).await;
    assert!(shown.code == 0 && shown.out.contains("telemetry.sample"), "{shown:?}");
    assert!(!shown.out.contains("CANARY") && !shown.err.contains("CANARY"));
}
