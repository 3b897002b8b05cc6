//! One command: accepted only when it is durable, and refused with the field that is wrong.

use lockgate::delivery::{HandedOver, keyed_id};
use lockgate_tests::doors::ScriptedDoor;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;
use uuid::Uuid;

use super::{COMMAND, SEND, serve, stored};

#[tokio::test]
async fn a_command_that_is_durable_is_accepted_with_its_message_id() {
    for (outcome, said) in [
        (HandedOver::Stored, "stored"),
        (
            HandedOver::Delivered {
                partition: 1,
                offset: 7,
            },
            "delivered",
        ),
    ] {
        let door = ScriptedDoor::new(move |_| outcome);
        let (_database, _api, client) = serve(door.clone()).await;
        let answer = client.post(SEND, COMMAND).await.is(202).json();
        assert_eq!(answer["outcome"], said);
        let [command] = &door.seen()[..] else {
            panic!("not one command: {:?}", door.seen().len());
        };
        assert_eq!(answer["messageId"], command.message_id.to_string());
        assert_eq!(
            (command.command_type.as_str(), &*command.message.topic),
            ("email", "mail")
        );
        assert_eq!(
            command.message.key.as_ref().map(Vec::len),
            Some(32),
            "the address is hashed"
        );
        let value: Value = serde_json::from_slice(&command.message.payload).unwrap();
        assert_eq!(
            (&value["recipientEmail"], &value["templateContext"]["name"]),
            (&"ada@example.org".into(), &"Ada".into())
        );
        let correlation = command.message.headers.get("correlation-id").unwrap();
        assert_eq!(value["correlationId"], *String::from_utf8_lossy(correlation));
        assert!(command.not_before.is_none() && command.message.headers.get("traceparent").is_none());
    }
}

#[tokio::test]
async fn nothing_is_accepted_before_it_is_durable() {
    let door = ScriptedDoor::closed(|_| HandedOver::Stored);
    let (_database, _api, client) = serve(door.clone()).await;
    let asked = tokio::spawn(async move { client.post(SEND, COMMAND).await });
    door.awaited_by(1).await;
    // The door has the command and has said nothing: neither may the server.
    tokio::task::yield_now().await;
    assert!(!asked.is_finished() && door.seen().is_empty());
    door.open();
    let _ = asked.await.unwrap().is(202);
    assert_eq!(door.seen().len(), 1);
}

#[tokio::test]
async fn a_command_that_nobody_took_is_asked_for_again() {
    let (_database, _api, client) = serve(ScriptedDoor::new(|_| HandedOver::NotAccepted)).await;
    let answer = client.post(SEND, COMMAND).await.is(503);
    assert_eq!(answer.headers["retry-after"], "1");
    answer.is_problem(503, "");
}

#[tokio::test]
async fn a_command_goes_on_when_its_client_goes_away() {
    let door = ScriptedDoor::closed(|_| HandedOver::Stored);
    let (_database, _api, client) = serve(door.clone()).await;
    let asked = tokio::spawn(async move { client.post(SEND, COMMAND).await });
    door.awaited_by(1).await;
    asked.abort();
    assert!(asked.await.unwrap_err().is_cancelled());
    door.open();
    lockgate_tests::wait_until(lockgate_tests::replica::PATIENCE, "it went through", async || {
        door.seen().len() == 1
    })
    .await;
}

#[tokio::test]
async fn a_repeat_under_the_same_key_has_the_same_message_id() {
    let door = stored();
    let (_database, _api, client) = serve(door.clone()).await;
    let with_field = COMMAND.replace(r#""locale""#, r#""idempotencyKey":"signup-7","locale""#);
    let with_header = |body: &str, key: &str| {
        let request = client
            .request(Method::POST, SEND)
            .header(CONTENT_TYPE, "application/json");
        client.answer(request.header("Idempotency-Key", key).body(body.to_owned()))
    };
    let ids = [
        client.post(SEND, with_field.as_str()).await.is(202).json(),
        with_header(COMMAND, "signup-7").await.is(202).json(),
        with_header(&with_field, "signup-7").await.is(202).json(),
    ];
    let wanted = keyed_id("email", "signup-7").to_string();
    assert!(ids.iter().all(|answer| answer["messageId"] == wanted), "{ids:?}");
    let own = with_header(&with_field, "signup-8").await.is(202).json();
    assert_eq!(own["messageId"], wanted, "the command's own key is the closer one");
    for bad in ["", "a key", &"x".repeat(181)] {
        with_header(COMMAND, bad).await.is_problem(400, "Idempotency-Key");
    }
    let other: Uuid = client.post(SEND, COMMAND).await.is(202).json()["messageId"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(other.get_version_num(), 7, "without a key each has an id of its own");
}

#[tokio::test]
async fn what_is_wrong_with_a_command_is_said_by_its_field() {
    let (_database, _api, client) = serve(stored()).await;
    for (from, to, field) in [
        ("ada@example.org", "ada", "recipientEmail"),
        ("welcome", "", "templateId"),
        (r#""templateId""#, r#""template""#, "template"),
        (r#""locale":"de""#, r#""locale":"de_DE""#, "locale"),
        (r#","locale":"de""#, "", "locale"),
        (r#""locale":"de""#, r#""locale":"de","userId":"7""#, "userId"),
        (r#""locale":"de""#, r#""locale":"de","notBefore":"soon""#, "notBefore"),
        (
            r#"{"name":"Ada"}"#,
            &format!("\"{}\"", "x".repeat(64 << 10)),
            "templateContext",
        ),
        (r#"}"#, "", ""),
        (COMMAND, "[]", ""),
        (COMMAND, "", ""),
    ] {
        client
            .post(SEND, COMMAND.replacen(from, to, 1))
            .await
            .is_problem(400, field);
    }
    let large = COMMAND.replace("Ada", &"x".repeat(128 << 10));
    client.post(SEND, large).await.is_problem(413, "");
    for (media, coding) in [
        ("text/plain", "identity"),
        ("application/json", "gzip"),
        ("", "identity"),
    ] {
        let request = client.request(Method::POST, SEND).header("Content-Encoding", coding);
        let request = if media.is_empty() {
            request
        } else {
            request.header(CONTENT_TYPE, media)
        };
        client.answer(request.body(COMMAND)).await.is_problem(415, "");
    }
    let with_charset = client
        .request(Method::POST, SEND)
        .header(CONTENT_TYPE, "Application/JSON; charset=utf-8");
    let _ = client.answer(with_charset.body(COMMAND)).await.is(202);
}

#[tokio::test]
async fn a_command_may_wait_and_belongs_to_its_clients_trace() {
    let door = stored();
    let (_database, _api, client) = serve(door.clone()).await;
    let waits = COMMAND.replace(
        r#""locale""#,
        r#""notBefore":"2099-01-31T06:00:00+01:00","userId":7,"locale""#,
    );
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for given in [traceparent, "00-not-a-trace-01"] {
        let request = client
            .request(Method::POST, SEND)
            .header(CONTENT_TYPE, "application/json");
        let _ = client
            .answer(request.header("traceparent", given).body(waits.clone()))
            .await
            .is(202);
    }
    let seen = door.seen();
    assert_eq!(seen[0].not_before.unwrap().to_rfc3339(), "2099-01-31T05:00:00+00:00");
    assert_eq!(seen[0].message.key.as_deref(), Some(b"7".as_slice()));
    assert_eq!(seen[0].message.headers.get("traceparent"), Some(traceparent.as_bytes()));
    assert_eq!(
        seen[0].message.headers.get("correlation-id"),
        Some(b"0af7651916cd43dd8448eb211c80319c".as_slice())
    );
    assert_eq!(seen[1].message.headers.get("traceparent"), None);
}

#[tokio::test]
async fn what_is_not_known_is_not_said_to_have_failed_and_what_is_refused_is_said_so() {
    let (_database, _api, client) = serve(ScriptedDoor::new(|_| HandedOver::Unsettled)).await;
    let late = client.post(SEND, COMMAND).await.is(503);
    assert!(late.json()["detail"].as_str().unwrap().contains("same idempotency key"));
    let lines = client.post_lines(COMMAND).await.is(200).lines();
    assert!(
        lines[0]["error"]["detail"]
            .as_str()
            .unwrap()
            .contains("same idempotency key"),
        "{lines:?}"
    );
    let (_database, _api, client) = serve(ScriptedDoor::new(|_| HandedOver::Refused)).await;
    assert_eq!(client.post(SEND, COMMAND).await.is(202).json()["outcome"], "refused");
    let lines = client.post_lines(COMMAND).await.is(200).lines();
    assert_eq!(
        (&lines[0]["status"], &lines[0]["outcome"]),
        (&202.into(), &"refused".into())
    );
}
