//! Mails arrive as they should.

use std::collections::BTreeSet;

use lockgate_tests::mailroom::{Letter, Mailroom, id_of};
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::smtp_sink::SmtpSink;
use lockgate_tests::wait_until;

const SENT: &str = "select count(*) from lockgate_mail.sent_emails where state = 'sent'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mails_go_out_once_with_their_headers_and_a_refused_one_fails_alone() {
    let sink = SmtpSink::new(|to| match to {
        "user-3@example.org" => Some("550 user-3@example.org is unknown here"),
        _ => None,
    })
    .await;
    let room = Mailroom::new()
        .await
        .with("EMAIL_SMTP_URL", &sink.url())
        .with("EMAIL_FROM", "Tracker <tracker@example.com>");
    room.post((0..50).chain(0..50).map(Letter::to_user).collect()).await;
    let mut sender = room.sender();
    room.reaches(49, SENT).await;
    room.is_read().await;
    let taken = sink.taken();
    assert_eq!(taken.len(), 49);
    let addresses: BTreeSet<&str> = taken.iter().map(|mail| mail.to.as_str()).collect();
    assert_eq!(addresses.len(), 49);
    let mail = taken.iter().find(|mail| mail.to == "user-2@example.org").unwrap();
    assert_eq!(
        mail.header("Message-ID"),
        Some(format!("<{}@example.com>", id_of(2)).as_str())
    );
    assert_eq!(mail.header("From"), Some("Tracker <tracker@example.com>"));
    assert_eq!(mail.header("Subject"), Some("Willkommen, User 2"));
    let failed: (String, String) =
        sqlx::query_as("select recipient, last_error from lockgate_mail.sent_emails where state = 'failed'")
            .fetch_one(&room.pool)
            .await
            .unwrap();
    assert_eq!(failed, ("user-3@example.org".into(), "the server answered 550".into()));
    assert!(!sender.log().contains("@example.org"), "an address is in the log");
    sender.terminate();
    assert!(sender.ends().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mails_wait_for_a_server_that_is_down_and_for_one_that_puts_them_off() {
    // A port that nobody listens on, and that nobody is given.
    let gone = "smtp://127.0.0.1:1";
    let room = Mailroom::new().await;
    room.post((0..20).map(Letter::to_user).collect()).await;
    let mut sender = room.sender_with(&[("EMAIL_SMTP_URL", gone)]);
    let unreached = "select count(*) from lockgate_mail.sent_emails
        where state = 'queued' and attempts = 0 and last_error = 'the server was not reached'";
    room.reaches(20, unreached).await;
    sender.terminate();
    assert!(sender.ends().await.success());
    let sink = SmtpSink::new(|to| (to == "user-7@example.org").then_some("451 come again")).await;
    let _sender = room.sender_with(&[("EMAIL_SMTP_URL", &sink.url())]);
    room.reaches(19, SENT).await;
    let put_off = "select count(*) from lockgate_mail.sent_emails
        where state = 'queued' and attempts >= 1 and last_error = 'the server answered 451' and next_attempt_at > clock_timestamp()";
    room.reaches(1, put_off).await;
    wait_until(PATIENCE, "the server has all it took", async || {
        sink.taken().len() == 19
    })
    .await;
}
