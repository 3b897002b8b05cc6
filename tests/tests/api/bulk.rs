//! Many commands as lines: one answer a line, in order, however large, slow or wrong they are.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::{SinkExt, StreamExt};
use lockgate::delivery::{CommandDoor, HandedOver, ReadyCommand};
use lockgate_tests::doors::ScriptedDoor;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Body, Method};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::{COMMAND, SEND, serve, stored};

/// The command with a key of its own.
fn line(number: usize) -> String {
    COMMAND.replace(r#""locale""#, &format!(r#""userId":{number},"locale""#)) + "\n"
}

#[tokio::test]
async fn ten_thousand_lines_with_bad_ones_are_answered_one_by_one() {
    let door = ScriptedDoor::new(|command| match command.message.key.as_deref() {
        Some(b"7777") => HandedOver::NotAccepted,
        _ => HandedOver::Stored,
    });
    let (_database, _api, client) = serve(door.clone()).await;
    let mut text = String::new();
    for number in 1..=10_000 {
        text += &match number {
            4000 => line(number).replace("ada@example.org", "nobody"),
            5000 => "not JSON\n".to_owned(),
            5001 => "\n".to_owned(),
            6000 => line(number).replace("Ada", &"x".repeat(200 << 10)),
            _ => line(number),
        };
    }
    let answers = client.post_lines(text).await.is(200).lines();
    assert_eq!(answers.len(), 10_000);
    let by_status = |status: u16| answers.iter().filter(move |answer| answer["status"] == status);
    let numbers = |status: u16| {
        by_status(status)
            .map(|answer| answer["line"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert!(
        answers.iter().zip(1..).all(|(answer, number)| answer["line"] == number),
        "out of order"
    );
    assert_eq!(
        (numbers(400), numbers(413), numbers(503)),
        (vec![4000, 5000, 5001], vec![6000], vec![7777])
    );
    assert_eq!(answers[3999]["error"]["field"], "recipientEmail");
    assert_eq!(
        answers[7776]["error"]["detail"],
        "the command was not taken; hand it over again"
    );
    let seen = door.seen();
    assert_eq!((seen.len(), by_status(202).count()), (9996, 9995));
    let mut handed_over: Vec<String> = seen.iter().map(|command| command.message_id.to_string()).collect();
    let mut answered: Vec<&str> = answers
        .iter()
        .filter_map(|answer| answer["messageId"].as_str())
        .collect();
    handed_over.sort_unstable();
    answered.sort_unstable();
    assert_eq!(handed_over, answered);
}

/// Keeps the first page until the second one is through.
struct SecondFirst {
    came: AtomicUsize,
    through: Semaphore,
}

#[async_trait]
impl CommandDoor for SecondFirst {
    async fn hand_over(&self, commands: Vec<ReadyCommand>) -> Vec<HandedOver> {
        match self.came.fetch_add(1, Ordering::SeqCst) {
            0 => drop(self.through.acquire().await.unwrap()),
            _ => self.through.add_permits(1),
        }
        vec![HandedOver::Stored; commands.len()]
    }
}

#[tokio::test]
async fn answers_keep_the_order_of_the_lines_whichever_page_is_durable_first() {
    let door = Arc::new(SecondFirst {
        came: AtomicUsize::new(0),
        through: Semaphore::new(0),
    });
    let (_database, _api, client) = serve(door).await;
    let answers = client.post_lines((1..=4000).map(line).collect::<String>()).await;
    let numbers: Vec<u64> = answers
        .is(200)
        .lines()
        .iter()
        .map(|answer| answer["line"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (1..=4000).collect::<Vec<_>>());
}

#[tokio::test]
async fn lines_are_answered_while_others_are_still_to_come() {
    let (_database, _api, client) = serve(stored()).await;
    let (mut to_server, body) = futures::channel::mpsc::channel::<Result<String, Infallible>>(1);
    let request = client
        .request(Method::POST, SEND)
        .header(CONTENT_TYPE, "application/x-ndjson");
    let response = request.body(Body::wrap_stream(body)).send().await.unwrap();
    let mut answers = response.bytes_stream();
    for number in 1..=3 {
        // Two pieces: the line is not whole until the second.
        let text = line(number);
        let (half, rest) = text.split_at(30);
        to_server.send(Ok(half.to_owned())).await.unwrap();
        to_server.send(Ok(rest.to_owned())).await.unwrap();
        let answer = answers.next().await.unwrap().unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((&answer["line"], &answer["status"]), (&number.into(), &202.into()));
    }
    drop(to_server);
    assert!(answers.next().await.is_none(), "an answer too many");
}

#[tokio::test]
async fn the_last_line_needs_no_end_and_no_lines_need_no_answers() {
    let (_database, _api, client) = serve(stored()).await;
    let answers = client.post_lines(line(1) + line(2).trim_end()).await.is(200).lines();
    assert_eq!(answers.len(), 2);
    assert_eq!(client.post_lines("").await.is(200).text, "");
}

#[tokio::test]
async fn a_repeat_of_a_whole_bulk_request_has_the_same_message_ids() {
    let (_database, _api, client) = serve(stored()).await;
    let own = line(2).replace(r#""locale""#, r#""idempotencyKey":"own","locale""#);
    let mut ids = Vec::new();
    for key in ["night", "night", "x"] {
        let request = client
            .request(Method::POST, SEND)
            .header(CONTENT_TYPE, "application/x-ndjson");
        let request = request.header("Idempotency-Key", key).body(line(1) + &own + &line(3));
        let answers = client.answer(request).await.is(200).lines();
        ids.push(
            answers
                .iter()
                .map(|answer| answer["messageId"].to_string())
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(ids[0], ids[1]);
    assert!(
        ids[0][0] != ids[2][0] && ids[0][1] == ids[2][1] && ids[0][0] != ids[0][2],
        "{ids:?}"
    );
}

#[tokio::test]
async fn no_line_is_accepted_before_it_is_durable() {
    let door = ScriptedDoor::closed(|_| HandedOver::Stored);
    let (_database, _api, client) = serve(door.clone()).await;
    let request = client
        .request(Method::POST, SEND)
        .header(CONTENT_TYPE, "application/x-ndjson");
    let text: String = (1..=5000).map(line).collect();
    let mut answers = request.body(text).send().await.unwrap().bytes_stream();
    // Four pages are at the door and the fifth is not: memory is bounded however long the body is.
    door.awaited_by(4).await;
    let early = tokio::time::timeout(std::time::Duration::from_millis(200), answers.next()).await;
    assert!(early.is_err(), "answered: {early:?}");
    door.open();
    let mut text = Vec::new();
    while let Some(piece) = answers.next().await {
        text.extend_from_slice(&piece.unwrap());
    }
    assert_eq!(
        String::from_utf8(text).unwrap().matches(r#""status":202"#).count(),
        5000
    );
}

#[tokio::test]
async fn only_so_many_bulk_requests_are_worked_on_at_once() {
    let door = ScriptedDoor::closed(|_| HandedOver::Stored);
    let (_database, _api, client) = serve(door.clone()).await;
    let many: Vec<_> = (1..=4)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.post_lines(line(number)).await })
        })
        .collect();
    door.awaited_by(4).await;
    client.post_lines(line(5)).await.is_problem(503, "");
    door.open();
    for answer in many {
        assert_eq!(answer.await.unwrap().is(200).lines().len(), 1);
    }
    // The permit goes back when the work ends, a moment after the last answer.
    lockgate_tests::wait_until(lockgate_tests::replica::PATIENCE, "there is room again", async || {
        client.post_lines(line(6)).await.status == 200
    })
    .await;
}
