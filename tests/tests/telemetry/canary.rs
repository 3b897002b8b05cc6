//! Secrets and personal data in all places where they may be, and in none of what is told (R36.11).

use lockgate_tests::chaos_secrets::create_kept;
use lockgate_tests::cli::Program;
use lockgate_tests::cluster::{Cluster, program};
use lockgate_tests::collector::{Collector, Seen};
use lockgate_tests::mailroom::{Letter, Mailroom};
use lockgate_tests::probes::{LISTEN, Probes};
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::smtp_sink::{Manners, SmtpSink};
use lockgate_tests::wait_until;
use serde_json::json;

use crate::support::{cluster, file};

/// In every secret and every personal value.
const MARK: &str = "CANARY";

fn hold(place: &str, text: &str) {
    let at = text.find(MARK).map(|at| {
        let from = text[..at].rfind('\n').map_or(0, |line| line + 1);
        text[from..].lines().next().unwrap_or_default().to_owned()
    });
    assert_eq!(at, None, "{place} tells it");
}

/// A command to somebody, as JSON.
fn command(to: &str) -> String {
    let command = json!({
        "recipientEmail": to, "templateId": "welcome", "templateContext": {"name": MARK}, "locale": "en",
    });
    command.to_string()
}

/// One command that the HTTP API takes, and some that it does not.
async fn posts(address: &str) {
    let token = format!("{MARK}-TOKEN-0123456789");
    let stranger = format!("{MARK}-UNKNOWN-0123456789");
    let whole = command(&format!("{MARK}@example.org"));
    let posts = [
        (&token, whole.clone(), 202_u16),
        (&token, command(&format!("{MARK} at nowhere")), 400),
        (&token, format!("{{\"recipientEmail\": {MARK}"), 400),
        (&stranger, whole, 401),
    ];
    for (token, body, status) in posts {
        let request = reqwest::Client::new()
            .post(format!("http://{address}/api/v1/email-commands"))
            .header("content-type", "application/json")
            .bearer_auth(token)
            .body(body.clone());
        assert_eq!(request.send().await.unwrap().status(), status, "{body}");
    }
}

/// A command that SQL enqueues goes to the topic.
async fn enqueues(cluster: &Cluster) {
    let enqueue = "select lockgate.enqueue_email(
           $1::text || '@example.org', 'welcome', jsonb_build_object('name', $1::text))";
    sqlx::query(enqueue).bind(MARK).execute(&cluster.pool).await.unwrap();
    wait_until(PATIENCE, "the outbox is empty", async || {
        let waiting = sqlx::query_scalar::<_, i64>("select count(*) from lockgate.outbox");
        waiting.fetch_one(&cluster.pool).await.unwrap() == 0
    })
    .await;
}

/// Two runs with it in parameters, a step's result, a signal and a transaction, which the second one's server refuses.
async fn runs(cluster: &Cluster) {
    create_kept(&cluster.pool).await;
    let mut runs = Vec::new();
    for end in ["completed", "failed"] {
        let run = cluster.start("chaos-secrets", json!({"text": MARK})).await;
        let signalled = sqlx::query_scalar::<_, String>("select lockgate.signal_run($1, 'go', $2)");
        let signalled = signalled.bind(run).bind(json!(MARK)).fetch_one(&cluster.pool).await;
        assert_eq!(signalled.unwrap(), "sent");
        cluster.reaches(run, end).await;
        runs.push(run);
    }
    let returned = "select count(*) from lockgate.task_runs where id = $1 and position('CANARY'::bytea in output) > 0";
    assert_eq!(cluster.count(returned, runs[0]).await, 1, "its output has it");
    let refused = "select count(*) from lockgate.v_runs
                    where run_id = $1 and reason like '%duplicate key%' and reason not like '%CANARY%'";
    let diagnosis = cluster.diagnosis(runs[1]).await;
    assert_eq!(cluster.count(refused, runs[1]).await, 1, "{diagnosis}");
}

/// Of all that was handed over something is told, or it would show little that the mark is not.
fn is_told(seen: &Seen, log: &str) {
    for span in [
        "POST /api/v1/email-commands",
        "submit ",
        "relay ",
        "step told",
        "step keep",
    ] {
        assert!(!seen.spans_called(span).is_empty(), "nobody tells of {span}");
    }
    for event in ["step_failed", "run_failed", "outbox_sent"] {
        assert!(log.contains(event), "the log has no {event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_nobodys_data_is_told_by_a_replica() {
    let collector = Collector::start().await;
    let headers = file(&format!("x-key={MARK}-FILE"));
    let cluster = cluster(&collector)
        .await
        .with("RUST_LOG", "trace")
        .with("LOCKGATE_API_LISTEN", "127.0.0.1:0")
        .with("LOCKGATE_API_TOKEN", &format!("{MARK}-TOKEN-0123456789"))
        .with("LOCKGATE_DIRECT_KEY_SECRET", &format!("{MARK}-KEY-0123456789abcdef"))
        .with("OTEL_EXPORTER_OTLP_HEADERS", &format!("authorization={MARK}-HEADER"))
        .with("OTEL_EXPORTER_OTLP_TRACES_HEADERS_FILE", &headers)
        // Nobody asks for it without SASL, and the library says so.
        .with("LOCKGATE_KAFKA_PROPERTIES_SASL_PASSWORD", &format!("{MARK}-SASL"))
        .with("OTEL_TRACES_SAMPLER", "always_on");
    // A token where some put it, which is of no use.
    let login = format!("://{MARK}-TENANT:{MARK}-OTLP@");
    let endpoint = collector.endpoint().replacen("://", &login, 1);
    let cluster = cluster.with("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
    let with_password = cluster.url().replacen('@', &format!(":{MARK}-DATABASE@"), 1);
    let cluster = cluster.with("DATABASE_URL", &with_password);
    // People whose names and addresses bear the mark.
    lockgate_workflows::tracker::create(&cluster.pool).await.unwrap();
    lockgate_workflows::tracker::seed(&cluster.pool, 200, |_| {})
        .await
        .unwrap();
    let mark = "update tracker.users set email = $1 || id || '@example.org',
           name = $1 || id || case when id = 7 then repeat('x', 3000000) else '' end";
    sqlx::query(mark).bind(MARK).execute(&cluster.pool).await.unwrap();
    let mut replica = cluster.replica();
    let probes = Probes::of(&mut replica).await;
    replica.runs().await;
    let run = cluster.start("daily-task-reports", json!({})).await;
    // One message is too large, and one run's parameters are what no run of it takes.
    cluster.reaches(run, "completed").await;
    let misfit = cluster.start("chaos-steps", json!({"steps": MARK})).await;
    cluster.reaches(misfit, "failed").await;
    let shown = "select count(*) from lockgate.v_runs where run_id = $1 and reason not like '%CANARY%'";
    assert_eq!(cluster.count(shown, misfit).await, 1, "the views show what did not fit");
    posts(&replica.api().await).await;
    enqueues(&cluster).await;
    runs(&cluster).await;
    collector
        .wait_for("metrics and logs have come", |seen| {
            seen.metric_exports > 1 && !seen.logs.is_empty()
        })
        .await;
    let scraped = probes.metrics().await;
    replica.terminate();
    assert!(replica.ends().await.success());
    hold("/metrics", &scraped);
    hold("the log", &replica.log());
    assert!(replica.log().contains("user and password in it are not sent"));
    hold("what was exported", &String::from_utf8_lossy(&collector.seen().raw));
    is_told(&collector.seen(), &replica.log());
    let shown = cluster.settings().iter();
    let shown = shown.fold(
        Program::without_database(program().to_str().unwrap()),
        |program, (name, value)| program.env(name, value),
    );
    let shown = shown.run(&["config", "show"]).await;
    assert!(shown.out.contains("http://***@localhost"), "{}", shown.out);
    hold("config show", &format!("{}{}", shown.out, shown.err));
}

/// Three e-mails, and four that nobody can do anything with.
fn letters() -> Vec<Letter> {
    let command = |user: u32, to: String, template: &str| {
        let command = json!({
            "recipientEmail": to, "templateId": template, "templateContext": {"name": MARK}, "locale": "en",
            "correlationId": format!("c-{user}"), "userId": user,
        });
        Letter {
            payload: command.to_string().into_bytes(),
            ..Letter::to_user(user)
        }
    };
    let to = |user: u32| format!("{MARK}{user}@example.org");
    let whole = (0..3).map(|user| command(user, to(user), "welcome"));
    let useless = [
        command(3, format!("{MARK} at nowhere"), "welcome"),
        command(4, to(4), "no-such-template"),
        Letter {
            payload: format!("{{\"recipientEmail\": {MARK}").into_bytes(),
            ..Letter::to_user(5)
        },
        Letter {
            id: None,
            ..command(6, to(6), "welcome")
        },
    ];
    whole.chain(useless).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_by_a_consumer() {
    let collector = Collector::start().await;
    let room = Mailroom::new().await.with(LISTEN.0, LISTEN.1).with("RUST_LOG", "trace");
    let room = room.with_all(&collector.env());
    let sink = SmtpSink::with(Manners {
        // In base64: user and CANARY-PASSWORD.
        login: Some("AHVzZXIAQ0FOQVJZLVBBU1NXT1JE"),
        answer: |to| match to {
            "CANARY1@example.org" => Some("550 CANARY1@example.org is nobody here"),
            "CANARY2@example.org" => Some("451 CANARY2@example.org is away, come again"),
            _ => None,
        },
        ..Manners::default()
    })
    .await;
    let smtp = sink.url_of("user", &format!("{MARK}-PASSWORD"));
    let mut sender = room.sender_with(&[("EMAIL_SMTP_URL", &smtp)]);
    room.post(letters()).await;
    // One was taken, one never will be; four are put aside.
    sender.says("mail_failed").await;
    room.reaches(4, "select count(*) from lockgate.inbox_dead").await;
    room.reaches(1, "select count(*) from lockgate_mail.sent_emails where state = 'sent'")
        .await;
    assert!(sink.taken()[0].text.contains(MARK), "the mail itself has it");
    let probes = Probes::of(&mut sender).await;
    collector
        .wait_for("metrics of the consumer have come", |seen| {
            seen.resources
                .iter()
                .any(|resource| resource["service.name"] == "email-sender")
        })
        .await;
    let scraped = probes.metrics().await;
    sender.terminate();
    assert!(sender.ends().await.success());
    hold("/metrics", &scraped);
    hold("the log", &sender.log());
    hold("what was exported", &String::from_utf8_lossy(&collector.seen().raw));
}

#[test]
#[should_panic(expected = "the log tells it")]
fn a_mark_is_found_where_it_is() {
    hold("the log", "nothing here\nmail to CANARY7@example.org failed\n");
}
