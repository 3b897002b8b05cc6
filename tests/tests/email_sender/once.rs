//! Copies, kills and changes of hands: each message has its effect once (R36.9).

use lockgate_tests::mailroom::{Letter, Mailroom};
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::wait_until;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

const MISSING: &str = "select count(*) from lockgate.inbox i
    where not exists (select from lockgate_mail.sent_emails s where s.message_id = i.message_id)";
const DEAD: &str = "select count(*) from lockgate.inbox_dead";

/// Commands to so many users, every third of them a second time somewhere behind, every tenth a third time at once.
fn letters_with_copies(users: u32) -> Vec<Letter> {
    let mut letters: Vec<Letter> = (0..users).map(Letter::to_user).collect();
    let copies = (0..users).filter(|user| user % 3 == 0).map(Letter::to_user);
    letters.extend(copies);
    let mut all = Vec::new();
    for (at, letter) in letters.into_iter().enumerate() {
        if at % 10 == 0 {
            all.push(letter.clone());
        }
        all.push(letter);
    }
    // Copies go to other partitions as well: a keyless resend may.
    for (letter, partition) in all.iter_mut().zip((0..4).cycle()) {
        letter.partition = Some(partition);
    }
    all
}

/// Every user has one e-mail, every e-mail its id in the inbox, and none was refused by the table: its `message_id` is
/// unique, so that a second effect of a message would have been put aside as dead.
async fn holds(room: &Mailroom, users: u32) {
    room.has_mails(i64::from(users)).await;
    room.is_read().await;
    let users = i64::from(users);
    assert_eq!(room.mails().await, users);
    assert_eq!(
        room.number("select count(distinct recipient) from lockgate_mail.sent_emails")
            .await,
        users
    );
    assert_eq!(room.number("select count(*) from lockgate.inbox").await, users);
    assert_eq!(room.number(MISSING).await, 0);
    assert_eq!(room.number(DEAD).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_a_message_have_one_effect() {
    let room = Mailroom::new().await;
    let letters = letters_with_copies(3_000);
    assert!(letters.len() > 4_000);
    room.post(letters).await;
    let mut sender = room.sender();
    holds(&room, 3_000).await;
    let first: (String, String, String) = sqlx::query_as(
        "select locale, subject, state from lockgate_mail.sent_emails where recipient = 'user-2@example.org'",
    )
    .fetch_one(&room.pool)
    .await
    .unwrap();
    assert_eq!(first, ("de".into(), "Willkommen, User 2".into(), "recorded".into()));
    sender.terminate();
    assert!(sender.ends().await.success());
    assert!(sender.log().contains("email-sender stopped"));
    assert!(!sender.log().contains("@example.org"), "an address is in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_it_gives_each_message_one_effect() {
    const USERS: u32 = 20_000;
    const KILLS: usize = 20;
    // Known by its name, a sender that comes back has its partitions at once.
    let room = Mailroom::new()
        .await
        .with("LOCKGATE_KAFKA_PROPERTIES_GROUP_INSTANCE_ID", "one")
        .with("EMAIL_PAGE", "50");
    room.post(letters_with_copies(USERS)).await;
    let (mut kills, mut midway) = (0, 0);
    let mut random = StdRng::seed_from_u64(lockgate_tests::seed());
    while kills < KILLS {
        let before = room.mails().await.max(0);
        let mut sender = room.sender();
        // Some are killed while they settle a page, some before they have one, all at a moment nobody chose.
        let wanted = before + random.random_range(0..1_500);
        let pause = Duration::from_micros(random.random_range(0..30_000));
        let all = i64::from(USERS);
        wait_until(PATIENCE, "e-mails appear", async || {
            room.mails().await.min(all) >= wanted.min(all)
        })
        .await;
        tokio::time::sleep(pause).await;
        sender.kill();
        kills += 1;
        let after = room.mails().await;
        midway += usize::from(after > before && after < all);
    }
    println!("{kills} kills, {midway} of them with some but not all e-mails made");
    assert!(midway >= 1, "no kill came in the middle of the work");
    let _sender = room.sender();
    holds(&room, USERS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_change_hands_in_the_middle() {
    const USERS: u32 = 12_000;
    // Small pages, so that there is a middle.
    let room = Mailroom::new().await.with("EMAIL_PAGE", "20");
    room.post(letters_with_copies(USERS)).await;
    let mut first = room.sender();
    first.says("a consumer has these partitions now").await;
    wait_until(PATIENCE, "the first has begun", async || room.mails().await > 0).await;
    // Nobody gets any further until the second has come.
    let mut held = room.pool.begin().await.unwrap();
    let hold = "lock table lockgate.inbox in share row exclusive mode";
    sqlx::query(hold).execute(&mut *held).await.unwrap();
    let between = room.mails().await;
    assert!(between < i64::from(USERS), "there is nothing left to share");
    let mut second = room.sender();
    second.says("a consumer has these partitions now").await;
    first.says("partitions_revoked").await;
    held.rollback().await.unwrap();
    first.terminate();
    assert!(first.ends().await.success());
    let mut third = room.sender();
    third.says("a consumer has these partitions now").await;
    // Its partitions are the third's once the broker misses it.
    second.kill();
    holds(&room, USERS).await;
    println!("{between} of {USERS} when the second came");
}
