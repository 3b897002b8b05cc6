//! What nobody can do anything with is put aside as it was read, and its neighbours go on.

use std::collections::BTreeMap;

use lockgate_tests::mailroom::{Letter, Mailroom, id_of};
use uuid::Uuid;

const CODES: &str = "select reason_code, count(*) from lockgate.inbox_dead group by 1 order by 1";

/// Hopeless ones among 500 whole ones, all in one partition.
fn letters() -> Vec<Letter> {
    let mut letters: Vec<Letter> = (0..500).map(Letter::to_user).collect();
    let hopeless = [
        Letter {
            payload: b"{\"recipientEmail\": 7\xff".to_vec(),
            ..Letter::to_user(1_000)
        },
        Letter {
            payload: Vec::new(),
            ..Letter::to_user(1_001)
        },
        Letter {
            id: None,
            ..Letter::to_user(1_002)
        },
        Letter {
            id: Some("seven".to_owned()),
            ..Letter::to_user(1_003)
        },
        Letter {
            crc32c: Some("00000000".to_owned()),
            ..Letter::to_user(1_004)
        },
        Letter::saying(1_005, "farewell", "pt-BR"),
        // Its context does not fill the template in.
        Letter::saying(1_006, "daily-task-report", "de"),
        Letter {
            payload: Letter::to_user(1_007)
                .payload
                .iter()
                .map(|byte| if *byte == b'@' { b' ' } else { *byte })
                .collect(),
            ..Letter::to_user(1_007)
        },
    ];
    for (at, letter) in hopeless.into_iter().enumerate() {
        letters.insert(at * 50 + 25, letter);
    }
    for letter in &mut letters {
        letter.partition = Some(0);
    }
    letters
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hopeless_records_are_put_aside_and_their_neighbours_go_on() {
    let room = Mailroom::new().await;
    room.post(letters()).await;
    let mut sender = room.sender();
    room.has_mails(500).await;
    room.is_read().await;
    let codes: Vec<(String, i64)> = sqlx::query_as(CODES).fetch_all(&room.pool).await.unwrap();
    let codes: BTreeMap<&str, i64> = codes.iter().map(|(code, count)| (code.as_str(), *count)).collect();
    let expected = [
        ("bad_message_id", 1),
        ("bad_recipient", 1),
        ("no_message_id", 1),
        ("no_template", 1),
        ("not_a_command", 2),
        ("template_failed", 1),
        ("wrong_crc32c", 1),
    ];
    assert_eq!(codes, BTreeMap::from(expected));
    assert_eq!(
        (
            room.mails().await,
            room.number("select count(*) from lockgate.inbox").await
        ),
        (500, 500)
    );
    let (bytes, names, offset): (Vec<u8>, Vec<String>, i64) =
        sqlx::query_as("select payload, header_names, kafka_offset from lockgate.inbox_dead where message_id = $1")
            .bind(id_of(1_000))
            .fetch_one(&room.pool)
            .await
            .unwrap();
    assert_eq!(
        (bytes.as_slice(), offset),
        (b"{\"recipientEmail\": 7\xff".as_slice(), 25)
    );
    assert_eq!(names, ["crc32c", "message-id"]);
    let reason: String = sqlx::query_scalar("select reason from lockgate.inbox_dead where reason_code = 'no_template'")
        .fetch_one(&room.pool)
        .await
        .unwrap();
    assert_eq!(reason, "there is no template farewell for locale pt-BR nor for en");
    assert!(sender.log().contains("no template farewell for locale pt-BR"));
    assert!(!sender.log().contains("example.org"), "an address is in the log");
    sender.terminate();
    assert!(sender.ends().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_effect_the_database_refuses_is_found_among_its_neighbours() {
    let room = Mailroom::new().await;
    lockgate_workflows::email_sender::create(&room.pool).await.unwrap();
    // As if the inbox had forgotten two messages whose e-mails are still there.
    for user in [77, 78] {
        sqlx::query(
            "insert into lockgate_mail.sent_emails (message_id, recipient, template, locale, subject, body, correlation_id, state)
             values ($1, 'x', 'x', 'x', 'x', 'x', 'x', 'recorded')",
        )
        .bind(id_of(user))
        .execute(&room.pool)
        .await
        .unwrap();
    }
    room.post(
        (0..500)
            .map(|user| Letter {
                partition: Some(0),
                ..Letter::to_user(user)
            })
            .collect(),
    )
    .await;
    let _sender = room.sender();
    room.has_mails(500).await;
    room.is_read().await;
    let dead: Vec<(Uuid, String)> =
        sqlx::query_as("select message_id, reason from lockgate.inbox_dead order by kafka_offset")
            .fetch_all(&room.pool)
            .await
            .unwrap();
    let why = "the database refused its effect with SQLSTATE 23505".to_owned();
    assert_eq!(dead, [(id_of(77), why.clone()), (id_of(78), why)]);
    assert_eq!(
        room.number("select count(*) from lockgate.inbox").await,
        498,
        "a dead message may be sent again"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_message_is_taken_when_it_is_sent_again_to_a_sender_that_knows_its_template() {
    let room = Mailroom::new().await;
    room.post(vec![Letter::saying(1, "farewell", "de")]).await;
    let mut sender = room.sender();
    room.reaches(1, "select count(*) from lockgate.inbox_dead").await;
    sender.terminate();
    assert!(sender.ends().await.success());
    let templates = std::env::temp_dir().join(format!("lockgate-templates-{}", Uuid::new_v4().simple()));
    std::fs::create_dir_all(templates.join("farewell")).unwrap();
    std::fs::write(templates.join("farewell/en.txt"), "Subject: Bye\n\nBye, {{ name }}.\n").unwrap();
    room.post(vec![Letter::saying(1, "farewell", "de")]).await;
    let _sender = room.sender_with(&[("EMAIL_TEMPLATES", templates.to_str().unwrap())]);
    room.has_mails(1).await;
    assert_eq!(
        room.number("select count(*) from lockgate_mail.sent_emails where locale = 'en' and body = E'Bye, User 1.'")
            .await,
        1
    );
    std::fs::remove_dir_all(templates).unwrap();
}
