//! Many commands as lines: read in pages, handed over a few pages at a time, answered line by line in their order.

use std::io::Write as _;
use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{StreamExt, stream};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tracing::Instrument;
use uuid::Uuid;

use super::Api;
use super::body::NDJSON;
use super::commands::{LARGEST_REQUEST, LATE, NOT_TAKEN};
use super::lines::{Lines, Page, lines};
use super::problem::Problem;
use super::trace::Incoming;
use crate::delivery::{HandedOver, InvalidRequest, ReadyCommand};

/// Pages of one request that are worked on at once.
const PAGES_AT_ONCE: usize = 4;
/// Pages of answers kept for a client that sends before it reads; then its sending has to wait.
const PAGES_KEPT: usize = 64;
/// How long a client may take to read a page of answers.
const UNREAD: Duration = Duration::from_secs(30);
/// Bytes of an ordinary answer, with room.
const ANSWER_BYTES: usize = 96;

/// What became of one line; in the order of the lines, one for each.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LineAnswer<'a> {
    /// Number of the line, from 1.
    line: u64,
    /// 202 durable, 400 or 413 can never be, 503 hand it over again.
    status: u16,
    /// Id of its message, when it is a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<Uuid>,
    /// `refused`: it is stored, but the brokers do not take it as it is; absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'a str>,
    /// Why it is not durable.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<LineError<'a>>,
}

/// What is wrong with a line.
#[derive(Debug, Serialize, JsonSchema)]
struct LineError<'a> {
    /// The field that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    /// What is wrong, and what to do.
    detail: &'a str,
}

/// What all lines of a request have in common.
#[derive(Clone)]
pub(super) struct Bulk {
    pub(super) incoming: Incoming,
    /// With the number of a line it is the key of that line.
    pub(super) key: Option<String>,
}

/// The answers to a page of lines.
type Answered = Result<Bytes, tokio::task::JoinError>;

/// Begins to answer; the lines are worked on while they come.
pub(super) fn answer(api: Api, bulk: Bulk, body: Body) -> Result<Response, Problem> {
    let permit = api.bulk.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Problem::unavailable("too many bulk requests are worked on"))?;
    let (answers, mut to_client) = mpsc::channel(PAGES_KEPT);
    tokio::spawn(work(api, bulk, body, answers, permit).in_current_span());
    let pages = stream::poll_fn(move |context| to_client.poll_recv(context));
    Ok(([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(pages)).into_response())
}

/// Ends when the body does, when its client is gone or reads too slowly, or when this replica is to stop: of lines without an
/// answer some may have been taken, and are to be sent again under their keys.
async fn work(api: Api, bulk: Bulk, body: Body, answers: mpsc::Sender<Answered>, _permit: OwnedSemaphorePermit) {
    let from = (Lines::new(body, api.arrival), 1, api.stop.clone());
    let numbered = stream::unfold(from, async |(mut body, first, stop)| {
        let page = tokio::select! {
            page = body.next() => page?,
            () = stop.cancelled() => return None,
        };
        let next = first + count(&page);
        Some(((first, page), (body, next, stop)))
    });
    // A task a page: what was handed over is heard of also when the client is gone.
    let answered = numbered
        .map(move |(first, page)| tokio::spawn(answer_page(api.clone(), bulk.clone(), first, page).in_current_span()))
        .buffered(PAGES_AT_ONCE);
    let mut answered = std::pin::pin!(answered);
    while let Some(page) = answered.next().await {
        // A page whose task panicked breaks the answer off, so that it does not look whole.
        let is_whole = page.is_ok();
        let sent = tokio::time::timeout(UNREAD, answers.send(page)).await;
        if !is_whole || !matches!(sent, Ok(Ok(()))) {
            break;
        }
    }
}

fn count(page: &Page) -> u64 {
    match page {
        Page::Lines(page) => lines(page).count() as u64,
        Page::TooLarge => 1,
    }
}

/// What became of a line so far.
enum Line {
    /// Handed over.
    Ready(Uuid),
    Invalid(InvalidRequest),
    TooLarge,
}

async fn answer_page(api: Api, bulk: Bulk, first: u64, page: Page) -> Bytes {
    let (mut ready, mut made) = (Vec::new(), Vec::new());
    match &page {
        Page::Lines(page) => {
            for (number, line) in (first..).zip(lines(page)) {
                made.push(make(&api, &bulk, number, line, &mut ready));
            }
        }
        Page::TooLarge => made.push(Line::TooLarge),
    }
    let outcomes = match ready.is_empty() {
        true => Some(Vec::new()),
        false => api.hand_over(ready).await,
    };
    let mut outcomes = outcomes.map(Vec::into_iter);
    let mut text = Vec::with_capacity(made.len() * ANSWER_BYTES);
    for (number, line) in (first..).zip(made) {
        match line {
            Line::Ready(id) => match outcomes.as_mut().map(Iterator::next) {
                Some(Some(HandedOver::Delivered { .. } | HandedOver::Stored)) => durable(&mut text, number, id),
                Some(Some(HandedOver::Refused)) => refused(&mut text, number, id),
                Some(Some(HandedOver::Unsettled)) => failed(&mut text, number, 503, Some(id), None, LATE),
                Some(_) => failed(&mut text, number, 503, Some(id), None, NOT_TAKEN),
                None => failed(&mut text, number, 503, Some(id), None, LATE),
            },
            Line::Invalid(invalid) => {
                let detail = invalid.to_string();
                failed(&mut text, number, 400, None, invalid.field.as_deref(), &detail);
            }
            Line::TooLarge => {
                let detail = format!("the line is larger than {LARGEST_REQUEST} bytes");
                failed(&mut text, number, 413, None, None, &detail);
            }
        }
    }
    text.into()
}

fn make(api: &Api, bulk: &Bulk, number: u64, line: &[u8], ready: &mut Vec<ReadyCommand>) -> Line {
    if line.len() > LARGEST_REQUEST {
        return Line::TooLarge;
    }
    let key = bulk.key.as_ref().map(|key| format!("{key}/{number}"));
    match api.make_ready(line, key.as_deref(), &bulk.incoming) {
        Ok(command) => {
            let id = command.message_id;
            ready.push(command);
            Line::Ready(id)
        }
        Err(invalid) => Line::Invalid(invalid),
    }
}

/// The usual answer, a hundred thousand times a second.
fn durable(text: &mut Vec<u8>, line: u64, id: Uuid) {
    // Writing to memory does not fail.
    let _ = writeln!(
        text,
        r#"{{"line":{line},"status":202,"messageId":"{}"}}"#,
        id.hyphenated()
    );
}

fn refused(text: &mut Vec<u8>, line: u64, id: Uuid) {
    let answer = LineAnswer {
        line,
        status: 202,
        message_id: Some(id),
        outcome: Some("refused"),
        error: None,
    };
    write_line(text, &answer);
}

fn failed(text: &mut Vec<u8>, line: u64, status: u16, message_id: Option<Uuid>, field: Option<&str>, detail: &str) {
    let answer = LineAnswer {
        line,
        status,
        message_id,
        outcome: None,
        error: Some(LineError { field, detail }),
    };
    write_line(text, &answer);
}

fn write_line(text: &mut Vec<u8>, answer: &LineAnswer<'_>) {
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(&mut *text, answer);
    text.push(b'\n');
}
