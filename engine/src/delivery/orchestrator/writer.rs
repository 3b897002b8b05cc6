//! A writer: a thread that stores commands in pages, in the order in which they came to its lane. A store that cannot
//! write is tried again for as long as the process lives; what waits meanwhile is bounded by the queue.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;

use super::super::command::InvalidCommand;
use super::super::fallback::{ConfirmedRow, FallbackError, FallbackRow, FallbackStore};
use super::counters::add;
use super::lanes::Lane;
use super::notices::{Fate, Notice};
use super::own_runtime::OwnRuntime;
use super::shared::Shared;
use super::spill::{Spill, row_of, unmade_row};
use super::waiting::{Placed, Waiter};

/// Rows of one statement.
const PAGE_ROWS: usize = 500;
/// A page is full once its payloads reach so many bytes.
const PAGE_BYTES: usize = 8 << 20;
/// First and last pause before a store that cannot write is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// How often it is said that the store cannot write.
const SAY_AGAIN: Duration = Duration::from_secs(10);
/// How often a call looks whether the stop's time is over.
const LOOK: Duration = Duration::from_millis(50);

/// See above.
pub(super) struct Writer {
    shared: Arc<Shared>,
    lane: usize,
    store: Arc<dyn FallbackStore>,
    runtime: Arc<OwnRuntime>,
    last_traffic: Instant,
    said: Option<Instant>,
}

/// Rows to be written together, and those that wait for them.
#[derive(Default)]
struct Page {
    rows: Vec<FallbackRow>,
    waiters: Vec<Option<Waiter>>,
    confirmed: Vec<ConfirmedRow>,
    bytes: usize,
}

/// How a call to the store ended.
enum Written {
    Done(u64),
    BadRow(String),
    /// The stop's time is over.
    GivenUp,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        lane: usize,
        store: Arc<dyn FallbackStore>,
        runtime: Arc<OwnRuntime>,
    ) -> Self {
        Self {
            shared,
            lane,
            store,
            runtime,
            last_traffic: Instant::now(),
            said: None,
        }
    }

    /// Works until its queue is closed and empty; once the stop's time is over, what still comes is counted as unplaced.
    pub(super) fn run(mut self) {
        self.lane().doze.is_mine();
        loop {
            // Before the look into the queue: what is put there between that and the close must be found.
            let closed = self.lane().is_closed();
            let page = self.collect();
            if !page.rows.is_empty() || !page.confirmed.is_empty() {
                self.write(page);
                self.last_traffic = Instant::now();
            } else if closed {
                break;
            } else {
                self.lane().doze.rest(self.last_traffic, || self.lane().is_quiet());
            }
        }
        self.shared.writer_ended();
    }

    fn lane(&self) -> &Lane {
        self.shared.spill.lane(self.lane)
    }

    fn collect(&self) -> Page {
        let mut page = Page::default();
        while page.rows.len() < PAGE_ROWS && page.confirmed.len() < PAGE_ROWS && page.bytes < PAGE_BYTES {
            match self.lane().pop() {
                Ok(spill) => self.add(&mut page, spill),
                Err(_) => break,
            }
        }
        page
    }

    fn add(&self, page: &mut Page, spill: Spill) {
        let (row, waiter) = match spill {
            Spill::Row(row, waiter) => (row, waiter),
            Spill::Entry(entry, reason) => match entry.command.make(&self.shared.topics, &self.shared.key_hash) {
                Ok(ready) => (row_of(*ready, reason, &self.shared.settings), entry.waiter),
                Err(unmade) => {
                    add(&self.shared.counters.invalid, 1);
                    if let Some(waiter) = entry.waiter {
                        waiter.tell(Placed::Invalid(unmade.why.clone()));
                    }
                    (unmade_row(*unmade), None)
                }
            },
            Spill::Confirm(row) => {
                page.confirmed.push(*row);
                return;
            }
        };
        page.bytes += row.payload.as_ref().map_or(0, Vec::len);
        page.rows.push(*row);
        page.waiters.push(waiter);
    }

    /// Rows first: what is confirmed may be among them.
    fn write(&mut self, mut page: Page) {
        let whole = 0..page.rows.len();
        let mut parts = vec![whole];
        while let Some(part) = parts.pop().filter(|part| !part.is_empty()) {
            fail::fail_point!("direct.before_store");
            let store = self.store.clone();
            match self.until_written(part.len(), || store.store_undelivered(&page.rows[part.clone()])) {
                Written::Done(_) => {
                    fail::fail_point!("direct.after_store");
                    self.stored(&mut page, part);
                }
                Written::BadRow(why) if part.len() == 1 => self.give_up(&mut page, part.start, &why),
                Written::BadRow(_) => {
                    let middle = part.start + part.len() / 2;
                    parts.extend([middle..part.end, part.start..middle]);
                }
                Written::GivenUp => self.shared.unplaced(part.len()),
            }
        }
        if page.confirmed.is_empty() {
            return;
        }
        fail::fail_point!("direct.before_confirm");
        let store = self.store.clone();
        let confirmed = page.confirmed.len();
        match self.until_written(confirmed, || store.confirm_undelivered(&page.confirmed)) {
            Written::Done(count) => add(&self.shared.counters.confirmed, count),
            Written::BadRow(why) => {
                tracing::error!(name: "direct_not_settled", count = confirmed, why, "stored commands that were acknowledged cannot be settled: they are sent once more");
            }
            // Their rows stay due: sent once more.
            Written::GivenUp => {}
        }
    }

    /// Repeats a write until it is answered or the stop's time is over. Nothing is cancelled by that: whatever the store
    /// was asked for last may still happen.
    fn until_written<'a>(
        &mut self,
        rows: usize,
        write: impl Fn() -> BoxFuture<'a, Result<u64, FallbackError>>,
    ) -> Written {
        let mut pause = PAUSES.0;
        loop {
            if self.shared.is_over() {
                return Written::GivenUp;
            }
            let shared = self.shared.clone();
            let answer = self.runtime.block_on(async {
                tokio::select! {
                    answer = write() => Some(answer),
                    () = time_is_over(&shared) => None,
                }
            });
            match answer {
                Some(Ok(count)) => return Written::Done(count),
                Some(Err(FallbackError::BadRow(why))) => return Written::BadRow(why),
                Some(Err(FallbackError::NotNow(why))) => self.failed(rows, &why),
                None => return Written::GivenUp,
            }
            // A stop cuts the pause short, and none goes on when its time is over: whoever stops counts what is left.
            let jittered = pause.mul_f64(rand::random_range(0.5..1.0));
            std::thread::park_timeout(self.shared.within_stop(jittered));
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    fn failed(&mut self, rows: usize, why: &str) {
        add(&self.shared.counters.store_failures, 1);
        if self.said.is_some_and(|said| said.elapsed() < SAY_AGAIN) {
            return;
        }
        self.said = Some(Instant::now());
        let count = rows + self.shared.spill.len();
        tracing::error!(name: "direct_store_failing", count, why, "direct commands cannot be stored yet and are in memory only");
    }

    fn stored(&self, page: &mut Page, part: Range<usize>) {
        let counters = &self.shared.counters;
        for (row, waiter) in page.rows[part.clone()].iter().zip(&mut page.waiters[part]) {
            counters.stored(row.code);
            add(&counters.refused, u64::from(row.refused));
            if let Some(waiter) = waiter.take() {
                waiter.tell(if row.refused { Placed::Refused } else { Placed::Stored });
            }
            self.shared.notices.leave(counters, || Notice {
                command_type: row.command_type.clone(),
                message_id: row.message_id,
                fate: Fate::Stored {
                    code: row.code,
                    refused: row.refused,
                },
            });
        }
    }

    fn give_up(&self, page: &mut Page, at: usize, why: &str) {
        self.shared.unplaced(1);
        if let Some(waiter) = page.waiters[at].take() {
            let (field, problem) = ("command", "can neither be sent nor stored");
            waiter.tell(Placed::Invalid(InvalidCommand { field, problem }));
        }
        let message_id = page.rows[at].message_id;
        tracing::error!(name: "direct_lost", %message_id, why, "a direct command can never be stored and is lost");
    }
}

async fn time_is_over(shared: &Shared) {
    while !shared.is_over() {
        tokio::time::sleep(LOOK).await;
    }
}
