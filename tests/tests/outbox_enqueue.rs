//! Enqueueing in the caller's own transaction, from Rust and from SQL: the same rows, and clear words for what cannot be.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use lockgate::delivery::{Direct, EmailTriggerCommand, KeyHash, Topics, keyed_id};
use lockgate::postgres::{EnqueueError, Outbox};
use lockgate_tests::TestDatabase;
use lockgate_tests::cli::Program;
use lockgate_tests::notes::{self, Note};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, PgPool};
use uuid::Uuid;

const WAITING: &str = "select count(*) from lockgate.outbox";

async fn waiting(pool: &PgPool) -> i64 {
    sqlx::query_scalar(WAITING).fetch_one(pool).await.unwrap()
}

fn outbox() -> Outbox {
    let topics = BTreeMap::from([("email".to_owned(), "email_commands".to_owned())]);
    Outbox::new(Topics::new(&topics), KeyHash::with_secret(b"secret"))
}

fn welcome(user_id: Option<i64>) -> EmailTriggerCommand<'static> {
    EmailTriggerCommand {
        recipient_email: "Ada@example.org".into(),
        template_id: "welcome".into(),
        template_context: json!({"name": "Ada \"the first\" Lovelace", "n": [1, null, 2.5], "ü": {}}),
        locale: "pt-BR".into(),
        correlation_id: "c-1".into(),
        user_id,
    }
}

#[tokio::test]
async fn a_rollback_leaves_nothing_and_a_commit_all_of_it_beside_the_callers_rows() {
    let database = TestDatabase::new().await;
    let pool = database.pool();
    sqlx::raw_sql("create table public.users (id bigint)")
        .execute(pool)
        .await
        .unwrap();
    for (commit, expected) in [(false, 0), (true, 1)] {
        let mut transaction = pool.begin().await.unwrap();
        sqlx::query("insert into public.users values (7)")
            .execute(&mut *transaction)
            .await
            .unwrap();
        outbox()
            .enqueue_in(&mut transaction, Direct::new(welcome(Some(7))))
            .await
            .unwrap();
        match commit {
            true => transaction.commit().await.unwrap(),
            false => transaction.rollback().await.unwrap(),
        }
        let users: i64 = sqlx::query_scalar("select count(*) from public.users")
            .fetch_one(pool)
            .await
            .unwrap();
        assert_eq!((users, waiting(pool).await), (expected, expected));
    }
}

#[tokio::test]
async fn pages_keep_the_order_in_which_they_were_given() {
    let database = TestDatabase::new().await;
    let ids = notes::enqueue(database.pool(), notes::to_everybody("notes", 7, 400)).await;
    let stored: Vec<Uuid> = sqlx::query_scalar("select message_id from lockgate.outbox order by seq")
        .fetch_all(database.pool())
        .await
        .unwrap();
    assert_eq!((ids.len(), stored == ids), (2800, true));
    let lanes = "select count(distinct lane) from lockgate.outbox group by key order by 1 desc limit 1";
    let lanes: i64 = sqlx::query_scalar(lanes).fetch_one(database.pool()).await.unwrap();
    assert_eq!(lanes, 1, "a key is in one lane");
}

#[tokio::test]
async fn a_command_that_can_never_be_sent_leaves_the_transaction_as_it_was() {
    let database = TestDatabase::new().await;
    let mut transaction = database.pool().begin().await.unwrap();
    let bad = EmailTriggerCommand {
        locale: "de_DE".into(),
        ..welcome(None)
    };
    let error = outbox()
        .enqueue_in(&mut transaction, Direct::new(bad))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, EnqueueError::Command(_)) && error.to_string().starts_with("locale"),
        "{error}"
    );
    let unknown = Outbox::default()
        .enqueue_in(&mut transaction, Direct::new(welcome(None)))
        .await
        .unwrap_err();
    assert_eq!(unknown.to_string(), "no topic is configured for commands of type email");
    let nowhere = Note::new("a b", None, 1);
    let error = outbox()
        .enqueue_in(&mut transaction, Direct::new(nowhere))
        .await
        .unwrap_err();
    assert!(error.to_string().starts_with("topic"), "{error}");
    outbox()
        .enqueue_in(&mut transaction, Direct::new(welcome(None)))
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(waiting(database.pool()).await, 1);
}

#[tokio::test]
async fn one_idempotency_key_waits_once_and_has_one_id_in_rust_and_sql() {
    let database = TestDatabase::new().await;
    let pool = database.pool();
    for key in ["signup-7", "a/b", "ü€𝄞", " ", &"long".repeat(500)] {
        let mut transaction = pool.begin().await.unwrap();
        let command = Direct::new(welcome(None)).idempotency_key(key);
        let id = outbox().enqueue_in(&mut transaction, command.clone()).await.unwrap();
        assert_eq!(outbox().enqueue_in(&mut transaction, command).await.unwrap(), id);
        transaction.commit().await.unwrap();
        let again: Uuid = sqlx::query_scalar("select lockgate.enqueue_email('b@c', 'other', idempotency_key => $1)")
            .bind(key)
            .fetch_one(pool)
            .await
            .unwrap();
        assert_eq!((again, keyed_id("email", key)), (id, id), "{key}");
        assert_eq!(id.get_version_num(), 8);
        let other: Uuid = sqlx::query_scalar("select lockgate.keyed_id('sms', $1)")
            .bind(key)
            .fetch_one(pool)
            .await
            .unwrap();
        assert_eq!(other, keyed_id("sms", key));
    }
    assert_eq!(waiting(pool).await, 5);
}

/// Kind, route, key, headers but for the checksum that only Rust has, and the value.
type Row = (String, String, Option<Vec<u8>>, Value, Vec<u8>, bool);

async fn only_row(pool: &PgPool) -> Row {
    let sql = "delete from lockgate.outbox
        returning command_type, route, key, (select jsonb_agg(h order by at) from jsonb_array_elements(headers) with ordinality x (h, at) where h->>0 <> 'crc32c'), payload,
                  not_before = '-infinity'";
    sqlx::query_as(sql).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn sql_and_rust_enqueue_the_same_email() {
    let database = TestDatabase::new().await;
    let pool = database.pool();
    let mut transaction = pool.begin().await.unwrap();
    let command = Direct {
        traceparent: None,
        ..Direct::new(welcome(Some(7)))
    };
    outbox().enqueue_in(&mut transaction, command).await.unwrap();
    transaction.commit().await.unwrap();
    let by_rust = only_row(pool).await;
    let call = "select lockgate.enqueue_email('Ada@example.org', 'welcome', $1, 'pt-BR', 7, 'c-1')";
    sqlx::query(call)
        .bind(welcome(None).template_context)
        .execute(pool)
        .await
        .unwrap();
    let by_sql = only_row(pool).await;
    assert_eq!(
        (&by_sql.0, &by_sql.1, &by_sql.2, &by_sql.3, by_sql.5),
        (&by_rust.0, &by_rust.1, &by_rust.2, &by_rust.3, by_rust.5)
    );
    // Unknown fields are an error, so the names are the same.
    let read: EmailTriggerCommand<'_> = serde_json::from_slice(&by_sql.4).unwrap();
    assert_eq!(read, welcome(Some(7)));
    assert_eq!(
        serde_json::from_slice::<EmailTriggerCommand<'_>>(&by_rust.4).unwrap(),
        read
    );
}

#[tokio::test]
async fn sql_commands_carry_exact_bytes_their_headers_and_their_time() {
    let database = TestDatabase::new().await;
    let pool = database.pool();
    let json = " {\"b\": 1, \"a\":\t1.0, \"a\": 2} ";
    let call = "select lockgate.enqueue_command('sms', $1, 'k', headers => '{\"traceparent\": \"00-1\", \"x\": \"\"}',
        correlation_id => 'c', not_before => '2099-01-01 00:00+00')";
    sqlx::query(call).bind(json).execute(pool).await.unwrap();
    let at: DateTime<Utc> = sqlx::query_scalar("select not_before from lockgate.outbox")
        .fetch_one(pool)
        .await
        .unwrap();
    assert_eq!(at.to_rfc3339(), "2099-01-01T00:00:00+00:00");
    let row = only_row(pool).await;
    let headers = json!([["correlation-id", "c"], ["traceparent", "00-1"], ["x", ""]]);
    assert_eq!(
        row,
        (
            "sms".into(),
            ":sms".into(),
            Some(b"k".to_vec()),
            headers,
            json.as_bytes().to_vec(),
            false
        )
    );
    let call = "select lockgate.enqueue_command('sms', topic => 'texts', payload_bytes => '\\x00ff')";
    sqlx::query(call).execute(pool).await.unwrap();
    let row = only_row(pool).await;
    assert_eq!((row.1.as_str(), row.2, row.4), ("texts", None, vec![0, 0xff]));
    assert!(
        row.3[0][1].as_str().unwrap().parse::<Uuid>().is_ok(),
        "a correlation id of its own"
    );
}

/// Calls that must be refused, and how the refusal begins.
const BAD: &[(&str, &str)] = &[
    ("enqueue_email(null, 'x')", "enqueue_email: recipientEmail"),
    ("enqueue_email('', 'x')", "enqueue_email: recipientEmail"),
    ("enqueue_email('sekret', 'x')", "enqueue_email: recipientEmail"),
    ("enqueue_email('sekret@', 'x')", "enqueue_email: recipientEmail"),
    ("enqueue_email('@sekret', 'x')", "enqueue_email: recipientEmail"),
    ("enqueue_email('sek ret@b', 'x')", "enqueue_email: recipientEmail"),
    ("enqueue_email(E'sekret@b\\n', 'x')", "enqueue_email: recipientEmail"),
    ("enqueue_email(E'sekret@b\\x7f', 'x')", "enqueue_email: recipientEmail"),
    (
        "enqueue_email(repeat('s', 253) || '@b', 'x')",
        "enqueue_email: recipientEmail",
    ),
    ("enqueue_email('a@b', null)", "enqueue_email: templateId"),
    ("enqueue_email('a@b', '')", "enqueue_email: templateId"),
    ("enqueue_email('a@b', 'x', null)", "enqueue_email: templateContext"),
    (
        "enqueue_email('a@b', 'x', to_jsonb(repeat('sekret', 11000)))",
        "enqueue_email: templateContext",
    ),
    ("enqueue_email('a@b', 'x', locale => 'de_DE')", "enqueue_email: locale"),
    ("enqueue_email('a@b', 'x', locale => null)", "enqueue_email: locale"),
    (
        "enqueue_email('a@b', 'x', correlation_id => '')",
        "enqueue_email: correlationId",
    ),
    (
        "enqueue_email('a@b', 'x', idempotency_key => '')",
        "enqueue_email: idempotencyKey",
    ),
    (
        "enqueue_email('a@b', 'x', not_before => 'infinity')",
        "enqueue_email: notBefore",
    ),
    ("enqueue_command(null, '{}')", "enqueue_command: commandType"),
    ("enqueue_command('sek/ret', '{}')", "enqueue_command: commandType"),
    ("enqueue_command('sms')", "enqueue_command: payload"),
    (
        "enqueue_command('sms', '{}', payload_bytes => 'x')",
        "enqueue_command: payload",
    ),
    (
        "enqueue_command('sms', '{sekret')",
        "enqueue_command: payload is not JSON",
    ),
    (
        "enqueue_command('sms', payload_bytes => convert_to(repeat('x', 16777217), 'UTF8'))",
        "enqueue_command: payload is larger",
    ),
    (
        "enqueue_command('sms', '{}', topic => 'sek ret')",
        "enqueue_command: topic",
    ),
    ("enqueue_command('sms', '{}', topic => '..')", "enqueue_command: topic"),
    (
        "enqueue_command('sms', '{}', headers => '[\"sekret\"]')",
        "enqueue_command: headers",
    ),
    (
        "enqueue_command('sms', '{}', headers => '{\"message-id\": \"sekret\"}')",
        "enqueue_command: headers holds message-id",
    ),
    (
        "enqueue_command('sms', '{}', headers => '{\"x\": {\"sekret\": 1}}')",
        "enqueue_command: headers",
    ),
    (
        "enqueue_command('sms', '{}', correlation_id => '')",
        "enqueue_command: correlationId",
    ),
];

#[tokio::test]
async fn bad_input_is_refused_with_the_name_of_the_field_and_never_its_value() {
    let database = TestDatabase::new().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    for (call, begins) in BAD {
        let call = format!("select lockgate.{call}");
        let error = sqlx::raw_sql(sqlx::AssertSqlSafe(call.clone()))
            .execute(&mut connection)
            .await
            .unwrap_err();
        let error = error.into_database_error().unwrap();
        let said = error.message();
        assert!(
            said.starts_with(begins) && said.ends_with("; nothing was enqueued"),
            "{call}: {said}"
        );
        assert!(!said.contains("sek") && !said.contains("sss"), "{call}: {said}");
        assert_eq!(error.code().as_deref(), Some("22023"), "{call}");
    }
    assert_eq!(waiting(database.pool()).await, 0);
}

#[tokio::test]
async fn whatever_rust_takes_for_an_address_or_a_language_sql_takes_too() {
    let database = TestDatabase::new().await;
    let samples = [
        "a@b",
        "a@b@c",
        "@a@b",
        "ü@exämple",
        "a@",
        "@b",
        "a",
        "",
        " a@b",
        "a@b ",
        "a\t@b",
        "a@b\u{a0}",
        "a\u{1f}@b",
        "a@\u{80}",
        "de",
        "d",
        "de-",
        "de-x",
        "de-x-1",
        "x-private",
        "i-klingon",
        "i-unknown",
        "zh-cmn-Hans-CN",
        "de-a",
        "de-a-bc",
        "de-123456789",
        "pt-BR",
        "zh-Hant-TW",
        "de_DE",
        "abcdefghi",
        "dé",
        "12",
    ];
    let accepts = async |sql: &'static str, text: &str| {
        let mut transaction = database.pool().begin().await.unwrap();
        sqlx::query(sql)
            .bind(text.to_owned())
            .execute(&mut *transaction)
            .await
            .is_ok()
    };
    for sample in samples {
        let address = EmailTriggerCommand {
            recipient_email: sample.into(),
            ..welcome(None)
        };
        let language = EmailTriggerCommand {
            locale: sample.into(),
            ..welcome(None)
        };
        let by_sql = accepts("select lockgate.enqueue_email($1, 'x')", sample).await;
        assert_eq!(by_sql, address.into_command().is_ok(), "address {sample:?}");
        let by_sql = accepts("select lockgate.enqueue_email('a@b', 'x', locale => $1)", sample).await;
        assert_eq!(by_sql, language.into_command().is_ok(), "language {sample:?}");
    }
}

#[tokio::test]
async fn a_trigger_of_a_user_who_may_only_send_enqueues_with_the_row() {
    let database = TestDatabase::new().await;
    let mut session = PgConnection::connect(database.url()).await.unwrap();
    let set_up = "create schema shop;
        create table shop.users (id bigint, email text);
        grant usage on schema shop to lockgate_sender;
        grant insert on shop.users to lockgate_sender;
        create function shop.welcome() returns trigger language plpgsql as $$
        begin
            perform lockgate.enqueue_email(new.email, 'welcome', user_id => new.id, idempotency_key => 'welcome-' || new.id);
            return new;
        end $$;
        create trigger welcome after insert on shop.users for each row execute function shop.welcome();
        set session authorization lockgate_sender;";
    sqlx::raw_sql(set_up).execute(&mut session).await.unwrap();
    sqlx::raw_sql("begin; insert into shop.users values (1, 'a@b'); rollback")
        .execute(&mut session)
        .await
        .unwrap();
    sqlx::raw_sql("insert into shop.users values (2, 'c@d'), (2, 'c@d')")
        .execute(&mut session)
        .await
        .unwrap();
    let keys: Vec<Vec<u8>> = sqlx::query_scalar("select key from lockgate.outbox")
        .fetch_all(database.pool())
        .await
        .unwrap();
    assert_eq!(keys, [b"2".to_vec()]);
    // From Rust too.
    let id = outbox()
        .enqueue_in(&mut session, Direct::new(welcome(None)))
        .await
        .unwrap();
    let found = "select count(*) from lockgate.outbox where message_id = $1";
    assert_eq!(
        sqlx::query_scalar::<_, i64>(found)
            .bind(id)
            .fetch_one(database.pool())
            .await
            .unwrap(),
        1
    );
}

#[tokio::test]
async fn the_command_line_shows_how_much_waits_in_which_lane_and_nothing_of_what_it_is() {
    let database = TestDatabase::new().await;
    let list = async |args: &[&str]| {
        let program = Program::new(env!("CARGO_BIN_EXE_lockgate-test"), database.url());
        let args: Vec<&str> = ["outbox", "list", "--output", "json"]
            .iter()
            .chain(args)
            .copied()
            .collect();
        program.run(&args).await.exits(0)
    };
    assert_eq!(list(&[]).await.json(), json!([]));
    assert_eq!(list(&["--all"]).await.json().as_array().unwrap().len(), 16);
    let fill = "select lockgate.enqueue_email('sekret@b', 'x', user_id => 7),
                       lockgate.enqueue_email('sekret@b', 'x', user_id => 7, not_before => '2099-01-01')";
    sqlx::query(fill).execute(database.pool()).await.unwrap();
    let found = list(&[]).await;
    assert!(!found.out.contains("sekret"), "{}", found.out);
    let lanes = found.json();
    let lane = &lanes[0];
    assert_eq!(
        (lanes.as_array().unwrap().len(), &lane["waiting"], &lane["delayed"]),
        (1, &json!(1), &json!(1))
    );
    let oldest: DateTime<Utc> = lane["oldest"].as_str().unwrap().parse().unwrap();
    assert!(
        (Utc::now() - oldest).num_seconds() < 60 && lane["holder"].is_null(),
        "{lane}"
    );
}

/// What docs/consumers.md says to do with dead records, as it stands there.
#[tokio::test]
async fn dead_records_go_back_through_the_outbox_once() {
    let page = include_str!("../../docs/consumers.md");
    let (_, after) = page.split_once("There is no command for that").unwrap();
    let statement = after.split("```").nth(1).unwrap().strip_prefix("sql").unwrap();
    let database = TestDatabase::new().await;
    let put_aside = "insert into lockgate.inbox_dead (consumer, topic, kafka_partition, kafka_offset, made_at, message_id,
            reason_code, reason, key, header_names, header_values, payload)
        select 'email-sender', 'mails', 0, n, now(), gen_random_uuid(), case n when 3 then 'wrong_crc32c' else 'no_template' end,
               'none', 'k', '{message-id,correlation-id}', '{a,c-1}', convert_to('{\"n\": ' || n || '}', 'UTF8')
          from generate_series(1, 3) n";
    sqlx::query(put_aside).execute(database.pool()).await.unwrap();
    for _ in 0..2 {
        sqlx::query(statement).execute(database.pool()).await.unwrap();
    }
    assert_eq!(waiting(database.pool()).await, 2);
    let sent = "select convert_from(payload, 'UTF8') from lockgate.outbox order by 1";
    let sent: Vec<String> = sqlx::query_scalar(sent).fetch_all(database.pool()).await.unwrap();
    assert_eq!(sent, ["{\"n\": 1}", "{\"n\": 2}"]);
    let headers = "select distinct headers::text from lockgate.outbox";
    let headers: String = sqlx::query_scalar(headers).fetch_one(database.pool()).await.unwrap();
    assert!(headers.contains("c-1"), "{headers}");
    let left = "select count(*) from lockgate.inbox_dead";
    let left: i64 = sqlx::query_scalar(left).fetch_one(database.pool()).await.unwrap();
    assert_eq!(left, 1);
}
