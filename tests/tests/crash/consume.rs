//! S: deaths of a consumer of the shipped kind.

use std::collections::BTreeMap;

use lockgate_tests::mailroom::{Letter, Mailroom};
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::smtp_sink::SmtpSink;
use lockgate_tests::wait_until;

const MAILS: i64 = 500;
/// Short, and a third of it is still time enough for a mail server on a busy machine.
const LEASE: &str = "15s";
const EFFECTS: &str = "select count(*) from lockgate_mail.sent_emails";
const REMEMBERED: &str = "select count(*) from lockgate.inbox";
const DEAD: &str = "select count(*) from lockgate.inbox_dead";
const SENT: &str = "select count(*) from lockgate_mail.sent_emails where state = 'sent'";

async fn room() -> Mailroom {
    // Known by its name, a sender that comes back has its partitions at once.
    let room = Mailroom::new()
        .await
        .with("LOCKGATE_KAFKA_PROPERTIES_GROUP_INSTANCE_ID", "one")
        // Waited out for what the dead one held.
        .with("EMAIL_LEASE", LEASE);
    room.post(
        (0..500)
            .map(|user| Letter {
                partition: Some(0),
                ..Letter::to_user(user)
            })
            .collect(),
    )
    .await;
    room
}

/// It dies in its second page, of 200; another brings all to its end, each message with one effect.
async fn dies_at(point: &str, left: i64) {
    let room = room().await;
    room.sender_with(&[("LOCKGATE_CRASH_AT", &format!("{point}:2"))])
        .crashes()
        .await;
    assert_eq!(
        (room.number(EFFECTS).await, room.number(REMEMBERED).await),
        (left, left),
        "{point}"
    );
    let _sender = room.sender();
    room.has_mails(MAILS).await;
    room.is_read().await;
    // A second effect would have met the first one's key, and been put aside.
    assert_eq!(
        (room.number(REMEMBERED).await, room.number(DEAD).await),
        (MAILS, 0),
        "{point}"
    );
}

pub async fn before_commit() {
    dies_at("inbox.before_commit", 200).await;
}

pub async fn after_commit() {
    dies_at("inbox.after_commit", 400).await;
}

/// How many copies of how many mails the server took, when a sender died at this point.
async fn copies_after(point: &str) -> BTreeMap<usize, usize> {
    let sink = SmtpSink::new(|_| None).await;
    let room = room().await.with("EMAIL_SMTP_URL", &sink.url());
    room.sender_with(&[("LOCKGATE_CRASH_AT", point)]).crashes().await;
    let _sender = room.sender();
    room.reaches(MAILS, SENT).await;
    copies(&sink, 500).await
}

/// How many copies of how many mails the server took, once it took so many different ones.
async fn copies(sink: &SmtpSink, mails: usize) -> BTreeMap<usize, usize> {
    let mut copies: BTreeMap<String, usize> = BTreeMap::new();
    wait_until(PATIENCE, "all mails are taken", async || {
        copies.clear();
        for mail in sink.taken() {
            *copies.entry(mail.header("Message-ID").unwrap().to_owned()).or_default() += 1;
        }
        copies.len() == mails
    })
    .await;
    let mut by_copies = BTreeMap::new();
    for count in copies.values() {
        *by_copies.entry(*count).or_default() += 1;
    }
    by_copies
}

pub async fn mail_claimed() {
    assert_eq!(copies_after("mail.after_claim").await, BTreeMap::from([(1, 500)]));
}

pub async fn mail_taken() {
    let copies = copies_after("mail.after_send:20").await;
    println!("mail.after_send: {copies:?}");
    let twice = copies.get(&2).copied().unwrap_or(0);
    // As many as are on their way at once, and the one whose mark is being written.
    assert!((1..=8).contains(&twice), "{copies:?}");
    assert_eq!(copies.get(&1).copied().unwrap_or(0) + twice, 500, "{copies:?}");
}

pub async fn mail_not_marked() {
    let sink = SmtpSink::new(|_| None).await;
    let room = Mailroom::new().await.with("EMAIL_LEASE", LEASE);
    room.queues(100).await;
    room.forbid_marks("%").await;
    let _sender = room.sender_with(&[("EMAIL_SMTP_URL", &sink.url())]);
    // The outage outlives the lease.
    let lapsed = "select count(*) from lockgate_mail.sent_emails
        where state = 'sending' and lease_until < clock_timestamp()";
    room.reaches(100, lapsed).await;
    let taken = sink.taken().len();
    assert!(
        (1..=8).contains(&taken),
        "{taken} went out of a page that cannot be marked"
    );
    room.allow_marks().await;
    room.reaches(100, SENT).await;
    let copies = copies(&sink, 100).await;
    println!("no marks for longer than a lease: {copies:?}");
    let twice = copies.get(&2).copied().unwrap_or(0);
    assert!(
        twice <= 8 && copies.get(&1).copied().unwrap_or(0) + twice == 100,
        "{copies:?}"
    );
}
