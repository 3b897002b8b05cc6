//! Mail servers that lock us out, fall silent, hang up or put off, and a database that takes no marks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lockgate_tests::mailroom::{Letter, Mailroom};
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::smtp_sink::{Close, Manners, SmtpSink};
use lockgate_tests::topic::Topic;
use lockgate_tests::{TestDatabase, kafka_brokers, wait_until};
use sqlx::Executor;

const SENT: &str = "select count(*) from lockgate_mail.sent_emails where state = 'sent'";
const FAILED: &str = "select count(*) from lockgate_mail.sent_emails where state = 'failed'";

/// A server that knows this `user`, whose password is `right`.
fn asking_for_a_password() -> Manners {
    Manners {
        login: Some("AHVzZXIAcmlnaHQ="),
        ..Manners::default()
    }
}

async fn last_error(room: &Mailroom) -> String {
    sqlx::query_scalar("select distinct last_error from lockgate_mail.sent_emails where last_error is not null")
        .fetch_one(&room.pool)
        .await
        .unwrap()
}

/// All twenty wait, with no attempt counted, for this reason; with the second URL they go out.
async fn wait_and_go(first: &str, why: &str, then: &str) {
    let room = Mailroom::new().await;
    room.post((0..20).map(Letter::to_user).collect()).await;
    let mut sender = room.sender_with(&[("EMAIL_SMTP_URL", first)]);
    let told = "select count(*) from lockgate_mail.sent_emails where last_error is not null";
    room.reaches(20, told).await;
    let free = "select count(*) from lockgate_mail.sent_emails where state <> 'failed' and attempts = 0";
    assert_eq!(room.number(free).await, 20, "an e-mail was blamed for {why}");
    assert_eq!(last_error(&room).await, why);
    sender.says(why).await;
    sender.terminate();
    assert!(sender.ends().await.success());
    let _sender = room.sender_with(&[("EMAIL_SMTP_URL", then)]);
    room.reaches(20, SENT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_fails_no_email() {
    let sink = SmtpSink::with(asking_for_a_password()).await;
    let (wrong, right) = (sink.url_of("user", "wrong"), sink.url_of("user", "right"));
    wait_and_go(&wrong, "the server refused our login with 535", &right).await;
    assert_eq!(sink.taken().len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_login_fails_no_email() {
    let sink = SmtpSink::with(asking_for_a_password()).await;
    let (none, right) = (sink.url(), sink.url_of("user", "right"));
    wait_and_go(&none, "the server wants a login, it answered 530", &right).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_turns_everybody_away_fails_no_email() {
    let closed = SmtpSink::with(Manners {
        greeting: "554 no mail here",
        ..Manners::default()
    })
    .await;
    let open = SmtpSink::new(|_| None).await;
    wait_and_go(&closed.url(), "the server turned us away with 554", &open.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_falls_silent_holds_up_neither_the_page_nor_the_end() {
    let sink = SmtpSink::with(Manners {
        close: Close::IsSilent,
        ..Manners::default()
    })
    .await;
    let lease = Duration::from_secs(30);
    let room = Mailroom::new()
        .await
        .with("EMAIL_SMTP_URL", &sink.url())
        .with("EMAIL_LEASE", "30s");
    room.post((0..4).map(Letter::to_user).collect()).await;
    let mut sender = room.sender();
    let given_up = "select count(*) from lockgate_mail.sent_emails
        where state = 'queued' and attempts >= 1 and last_error = 'the server did not answer in time'";
    wait_until(PATIENCE, "silence is given up", async || {
        room.number(given_up).await > 0
    })
    .await;
    let before = sink.taken().len();
    room.post((10..14).map(Letter::to_user).collect()).await;
    wait_until(PATIENCE, "it is silent again", async || sink.taken().len() > before).await;
    let told = Instant::now();
    sender.terminate();
    assert!(sender.ends().await.success());
    assert!(told.elapsed() < lease, "it ended after {:?}", told.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_email_whose_answer_never_comes_is_offered_less_and_less_and_fails_in_the_end() {
    let sink = SmtpSink::with(Manners {
        close: Close::HangsUp,
        ..Manners::default()
    })
    .await;
    let room = Mailroom::new().await.with("EMAIL_SMTP_URL", &sink.url());
    room.post((0..3).map(Letter::to_user).collect()).await;
    let mut sender = room.sender();
    let paused = "select least(count(*), 1) from lockgate_mail.sent_emails
        where state = 'queued' and attempts >= 2 and next_attempt_at > clock_timestamp()";
    room.reaches(1, paused).await;
    assert_eq!(room.number(FAILED).await, 0);
    let days_later = "update lockgate_mail.sent_emails
        set first_attempt_at = clock_timestamp() - interval '73 hours', next_attempt_at = clock_timestamp()
        where state = 'queued' and first_attempt_at > clock_timestamp() - interval '1 hour'";
    // One that is just being offered is waited for.
    wait_until(PATIENCE, "all three have failed", async || {
        room.pool.execute(days_later).await.unwrap();
        room.number(FAILED).await == 3
    })
    .await;
    assert_eq!(last_error(&room).await, "the server hung up before its last answer");
    let attempts: i64 = room.number("select sum(attempts) from lockgate_mail.sent_emails").await;
    assert_eq!(
        sink.taken().len() as i64,
        attempts,
        "a copy went out that was not counted"
    );
    sender.terminate();
    assert!(sender.ends().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_the_server_does_not_understand_fails_alone() {
    let sink = SmtpSink::new(|_| None).await;
    let room = Mailroom::new().await.with("EMAIL_SMTP_URL", &sink.url());
    let mut letters: Vec<Letter> = (0..10).map(Letter::to_user).collect();
    let payload = String::from_utf8(letters[4].payload.clone()).unwrap();
    letters[4].payload = payload.replace("user-4@", "jürgen-4@").into_bytes();
    room.post(letters).await;
    let mut sender = room.sender();
    room.reaches(9, SENT).await;
    room.reaches(1, FAILED).await;
    assert_eq!(
        last_error(&room).await,
        "the server takes no address beyond ASCII (SMTPUTF8)"
    );
    sender.says("takes no address beyond ASCII").await;
    assert!(!sender.log().contains("rgen-4"), "an address is in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_put_off_waits_for_days_and_not_for_a_number_of_answers() {
    let sink = SmtpSink::new(|_| Some("451 come again")).await;
    let room = Mailroom::new().await.with("EMAIL_SMTP_URL", &sink.url());
    room.post(vec![Letter::to_user(1)]).await;
    let _sender = room.sender();
    let put_off = "select count(*) from lockgate_mail.sent_emails where attempts = 1 and state = 'queued'";
    room.reaches(1, put_off).await;
    let much_later = "update lockgate_mail.sent_emails set attempts = 30, next_attempt_at = clock_timestamp()";
    room.pool.execute(much_later).await.unwrap();
    room.reaches(1, "select count(*) from lockgate_mail.sent_emails where attempts = 31")
        .await;
    assert_eq!(room.number(FAILED).await, 0);
    let days_later = "update lockgate_mail.sent_emails
        set first_attempt_at = clock_timestamp() - interval '73 hours', next_attempt_at = clock_timestamp()";
    room.pool.execute(days_later).await.unwrap();
    room.reaches(1, FAILED).await;
    assert_eq!(last_error(&room).await, "the server answered 451");
}

/// How many copies went of how many e-mails.
fn copies(sink: &SmtpSink) -> BTreeMap<usize, usize> {
    let mut copies: BTreeMap<String, usize> = BTreeMap::new();
    for mail in sink.taken() {
        *copies.entry(mail.to).or_default() += 1;
    }
    let mut by_copies = BTreeMap::new();
    for count in copies.into_values() {
        *by_copies.entry(count).or_default() += 1;
    }
    by_copies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn marks_are_repeated_while_the_lease_lasts_and_nothing_more_is_offered_meanwhile() {
    let sink = SmtpSink::new(|_| None).await;
    let room = Mailroom::new().await;
    room.queues(100).await;
    room.forbid_marks("%").await;
    let mut sender = room.sender_with(&[("EMAIL_SMTP_URL", &sink.url()), ("EMAIL_LEASE", "60s")]);
    sender.says("cannot be marked").await;
    room.allow_marks().await;
    room.reaches(100, SENT).await;
    assert_eq!(copies(&sink), BTreeMap::from([(1, 100)]));
    sender.terminate();
    assert!(sender.ends().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_queues_failed_emails_again_with_a_reason() {
    let refusing = SmtpSink::new(|to| match to {
        "user-1@example.org" => Some("552 too much"),
        "user-2@example.org" | "user-3@example.org" => Some("550 not from you"),
        _ => None,
    })
    .await;
    let room = Mailroom::new().await;
    room.post((0..5).map(Letter::to_user).collect()).await;
    let mut sender = room.sender_with(&[("EMAIL_SMTP_URL", &refusing.url())]);
    room.reaches(3, FAILED).await;
    room.reaches(2, SENT).await;
    sender.terminate();
    assert!(sender.ends().await.success());
    let failed = "2 failed: the server answered 550\n1 failed: the server answered 552\n";
    assert_eq!(
        room.runs(&["requeue", "--dry-run"]),
        (Some(0), format!("{failed}0 queued again\n"))
    );
    for (args, why) in [
        (vec!["requeue", "--all"], "--reason"),
        (vec!["requeue", "--all", "--reason", " "], "the reason is empty"),
        (vec!["requeue", "--reason", "mended"], "no e-mails are named"),
    ] {
        let (code, said) = room.runs(&args);
        assert!(code != Some(0) && said.contains(why), "{said}");
    }
    assert_eq!(room.number(FAILED).await, 3);
    let these = ["requeue", "--error", "the server answered 550", "--reason", "mended"];
    let said = "2 failed: the server answered 550\n2 queued again\n";
    assert_eq!(room.runs(&these), (Some(0), said.to_owned()));
    let anew = "select count(*) from lockgate_mail.sent_emails
        where state = 'queued' and attempts = 0 and first_attempt_at is null and last_error = 'queued again: mended'";
    assert_eq!((room.number(anew).await, room.number(FAILED).await), (2, 1));
    let open = SmtpSink::new(|_| None).await;
    let _sender = room.sender_with(&[("EMAIL_SMTP_URL", &open.url())]);
    room.reaches(4, SENT).await;
    assert_eq!(open.taken().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_of_a_page_is_offered_when_one_mark_has_failed() {
    let sink = SmtpSink::new(|_| None).await;
    // Waited out, and a third of it is time enough for the mail server.
    let room = Mailroom::new().await.with("EMAIL_LEASE", "20s");
    room.queues(100).await;
    let first = "update lockgate_mail.sent_emails set next_attempt_at = '2026-01-01' where recipient like 'user-0@%'";
    room.pool.execute(first).await.unwrap();
    room.forbid_marks("user-0@%").await;
    let mut sender = room.sender_with(&[("EMAIL_SMTP_URL", &sink.url())]);
    sender.says("page of e-mails settled emails=100").await;
    let log = sender.log();
    let line = log
        .lines()
        .find(|line| line.contains("page of e-mails settled"))
        .unwrap();
    let left: usize = line.split("left=").nth(1).unwrap().trim().parse().unwrap();
    assert!(left > 0, "the whole page went out behind a mark that failed");
    println!("{left} of 100 were handed back");
    room.allow_marks().await;
    room.reaches(100, SENT).await;
    assert_eq!(copies(&sink), BTreeMap::from([(1, 99), (2, 1)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_email_whose_sender_is_gone_time_and_again_is_offered_less_and_less() {
    let sink = SmtpSink::new(|_| None).await;
    let room = Mailroom::new().await;
    room.queues(2).await;
    let lapsed = "update lockgate_mail.sent_emails
        set state = 'sending', attempts = 5, claim_id = gen_random_uuid(), lease_until = clock_timestamp() - interval '1 s'
        where recipient like 'user-0@%'";
    room.pool.execute(lapsed).await.unwrap();
    let _sender = room.sender_with(&[("EMAIL_SMTP_URL", &sink.url())]);
    let waiting = "select count(*) from lockgate_mail.sent_emails where state = 'queued' and attempts = 6
        and last_error = 'its sender was gone' and next_attempt_at > first_attempt_at + interval '31 s'";
    room.reaches(1, waiting).await;
    room.reaches(1, SENT).await;
    assert_eq!(copies(&sink), BTreeMap::from([(1, 1)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_an_earlier_build_gets_what_it_lacks() {
    let room = Mailroom::new().await;
    lockgate_workflows::email_sender::create(&room.pool).await.unwrap();
    let earlier = "alter table lockgate_mail.sent_emails drop column first_attempt_at, drop column traceparent";
    room.pool.execute(earlier).await.unwrap();
    lockgate_workflows::email_sender::create(&room.pool).await.unwrap();
    room.queues(1).await;
    // Whether the sender came to offer it, or handed it back with its reason, is chance; an attempt that counts has its time.
    let whole = "select count(*) from lockgate_mail.sent_emails where (attempts > 0) = (first_attempt_at is not null)";
    assert_eq!(room.number(whole).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_may_make_no_schema_is_told_what_it_lacks_and_works_once_it_has_it() {
    let database = TestDatabase::new().await;
    let engine = format!("{}?options=-c%20role=lockgate_engine", database.url());
    let (pool, topic) = (database.pool().clone(), Topic::new(kafka_brokers(), &[]).await);
    let room = Mailroom::on(&engine, pool, topic, Some(database));
    let statement = "create schema lockgate_mail authorization lockgate_engine";
    let (code, said) = room.runs(&[]);
    assert_eq!(code, Some(1), "{said}");
    let told = format!("an administrator runs, once: {statement}: ");
    assert!(said.contains(&told), "{said}");
    room.pool.execute(statement).await.unwrap();
    room.post((0..5).map(Letter::to_user).collect()).await;
    let _sender = room.sender();
    room.has_mails(5).await;
}
