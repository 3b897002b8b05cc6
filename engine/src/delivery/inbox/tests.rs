//! What is a message, and what a loop does with pages that cannot be settled.
#![allow(clippy::unwrap_used)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

fn record(headers: &[(&str, &str)], payload: &str) -> Record {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), value.as_bytes().to_vec());
    Record {
        partition: 0,
        offset: 0,
        timestamp: None,
        key: None,
        payload: payload.into(),
        headers: headers.iter().map(owned).collect(),
    }
}

const ID: &str = "3fdefd49-918a-5ed4-81ae-70c832382a41";

#[test]
fn a_record_is_known_by_its_message_id_when_it_is_whole() {
    // The check value of CRC-32C.
    let checked = [("crc32c", "e3069283"), ("message-id", ID)];
    assert_eq!(identify(&record(&checked, "123456789")).unwrap().to_string(), ID);
    assert_eq!(identify(&record(&[("message-id", ID)], "any")).unwrap().to_string(), ID);
    for (headers, payload, code) in [
        (&checked[..], "damaged", "wrong_crc32c"),
        (&[("crc32c", "none"), ("message-id", ID)], "123456789", "wrong_crc32c"),
        (&[], "", "no_message_id"),
        (&[("message-id", "7")], "", "bad_message_id"),
    ] {
        assert_eq!(identify(&record(headers, payload)).unwrap_err().code, code);
    }
}

#[test]
fn a_reason_is_one_line_of_bounded_length() {
    let rejection = Rejection::new("x", format!("a\nb{}", "c".repeat(1000)));
    assert_eq!(
        (&rejection.reason[..3], rejection.reason.len()),
        ("abc", LONGEST_REASON)
    );
}

/// Pages of one record each, and how far they were settled.
struct Scripted {
    next: i64,
    settled: Arc<Mutex<Vec<i64>>>,
}

#[async_trait]
impl Inflow for Scripted {
    async fn next_page(&mut self) -> Result<InboundPage, InflowEnded> {
        self.next += 1;
        if self.next > 3 {
            return Err(InflowEnded("no more pages".to_owned()));
        }
        Ok(InboundPage {
            topic: "t".into(),
            records: Arc::new(vec![record(&[], "")]),
            end: PageEnd(vec![(0, 1, self.next)]),
        })
    }

    fn settled(&self, end: &PageEnd) {
        self.settled
            .lock()
            .unwrap()
            .extend(end.0.iter().map(|(.., next)| *next));
    }

    async fn close(self: Box<Self>) {
        self.settled.lock().unwrap().push(-1);
    }
}

/// Fails so many times, and says when it is asked to stop.
struct Failing {
    times: AtomicU32,
    stop: Option<CancellationToken>,
}

#[async_trait]
impl Settler for Failing {
    async fn take(&self, _page: &InboundPage) -> Result<Taken, TakeError> {
        if let Some(stop) = &self.stop {
            stop.cancel();
        }
        let left = self
            .times
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        match left {
            Ok(_) => Err(TakeError::Database("down".to_owned())),
            Err(_) => Ok(Taken {
                new: 1,
                ..Taken::default()
            }),
        }
    }
}

async fn run(times: u32, stop: Option<CancellationToken>) -> (Vec<i64>, bool) {
    let settled = Arc::<Mutex<Vec<i64>>>::default();
    let inflow = Scripted {
        next: 0,
        settled: settled.clone(),
    };
    let token = stop.clone().unwrap_or_default();
    let inbox = Failing {
        times: times.into(),
        stop,
    };
    let ended = consume(Box::new(inflow), Arc::new(inbox), token).await;
    let settled = settled.lock().unwrap().clone();
    (settled, ended.is_ok())
}

#[tokio::test]
async fn a_page_is_tried_until_it_is_settled_and_none_is_passed_over() {
    let (settled, ok) = run(3, None).await;
    assert_eq!(
        (settled, ok),
        (vec![1, 2, 3, -1], false),
        "the end of the inflow is an error"
    );
}

#[tokio::test]
async fn a_page_that_cannot_be_settled_does_not_hold_up_a_stop_and_its_offsets_stay() {
    let (settled, ok) = run(u32::MAX, Some(CancellationToken::new())).await;
    assert_eq!((settled, ok), (vec![-1], true));
}

#[tokio::test]
async fn a_stop_keeps_what_is_settled() {
    let (settled, ok) = run(0, Some(CancellationToken::new())).await;
    assert_eq!((settled, ok), (vec![1, -1], true));
}
