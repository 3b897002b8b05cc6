//! The periodic pass: safe to run anywhere, twice at once; each statement takes a page and leaves the rest to the next.

use futures::FutureExt;
use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::PostgresFleet;
use super::batches::{read_ids, read_key};
use super::left::{Left, Sweep};
use crate::delivery::message_id;
use crate::lifecycle::{FleetError, ItemIds, Stuck, Swept, pack_ids};
use crate::postgres::database::DatabaseError;

const RECOVER_BATCHES: &str = include_str!("../../../queries/recover_batches.sql");
const STUCK_BATCHES: &str = include_str!("../../../queries/stuck_batches.sql");
const SPLIT_BATCH: &str = include_str!("../../../queries/split_batch.sql");
const REFUSE_STUCK_BATCH: &str = include_str!("../../../queries/refuse_stuck_batch.sql");
const RECOVER_RUNS: &str = include_str!("../../../queries/recover_runs.sql");
const STOP_OVERDUE_RUNS: &str = include_str!("../../../queries/stop_overdue_runs.sql");
const SETTLE_STOPS: &str = include_str!("../../../queries/settle_stops.sql");
const RECOVER_UNDELIVERED: &str = include_str!("../../../queries/recover_undelivered.sql");
const HOLD_PLACES: &str = include_str!("../../../queries/hold_places.sql");
const IDLE_FAN_OUTS: &str = include_str!("../../../queries/idle_fan_outs.sql");

/// Rows a sweep's statement takes at once.
const PAGE: i64 = 500;
/// Statements after which the rest is left to the next sweep: what many replicas held when they died together.
const PAGES: usize = 40;
/// Rows that may fail before a part is left to the next sweep.
const MANY: usize = 3;
/// Deaths after which a run's code is set aside, twice as many where its holders had lived with it; its batches have their own count.
const RUN_DEATHS: i16 = 5;

impl PostgresFleet {
    /// Every part that may have anything to do is tried, whatever became of those before it: one that fails must not keep the
    /// rest from recovery.
    pub(super) async fn sweep_once(&self) -> Result<Swept, FleetError> {
        let max_deaths = self.settings.max_deaths;
        let (database, asked) = (&self.database, self.what_is_left().await);
        let (left, mut sweep) = Sweep::begin(asked);
        self.forget_places(&left);
        let batches = || database.statement(RECOVER_BATCHES).bind(max_deaths).bind(PAGE);
        let overdue = || database.statement(STOP_OVERDUE_RUNS).bind(PAGE);
        let undelivered = || database.statement(RECOVER_UNDELIVERED).bind(PAGE);
        let recover_batches = pages(|| self.affected(batches()));
        let recover_runs = pages(|| self.recover_page_of_runs());
        let recover_undelivered = pages(|| self.affected(undelivered()));
        let stop_overdue = pages(|| self.counted(overdue()));
        let settle_stops = pages(|| self.settle_page_of_stops());
        let swept = Swept {
            batches: sweep.part(left.batches, recover_batches).await,
            runs: sweep.part(left.runs, recover_runs).await,
            undelivered: sweep.part(left.undelivered, recover_undelivered).await,
            split: sweep.part(left.batches, self.split_stuck()).await,
            stopped: sweep.part(left.overdue, stop_overdue).await + sweep.part(left.stopping, settle_stops).await,
            fan_outs: sweep.part(left.fan_outs, self.complete_idle()).await,
            parents: sweep.part(left.children, self.look_after_children()).await,
            followers: sweep.part(left.followers, self.wake_left_behind()).await,
        };
        // What was claimed by who did not know of a limit counts from here on.
        let places = self.counted(database.statement(HOLD_PLACES));
        sweep.part(left.places, places).await;
        sweep.end(swept)
    }

    /// Looks that go from page to page begin at the start again where nothing is left to look at.
    fn forget_places(&self, left: &Left) {
        if !left.children {
            *self.lock_looked_at() = None;
        }
        if !left.followers {
            *self.lock_waited_for() = None;
        }
    }

    pub(super) async fn affected(&self, query: Query) -> Result<u64, FleetError> {
        Ok(self
            .database
            .run(move |connection| query.execute(connection).boxed())
            .await?
            .rows_affected())
    }

    async fn counted(&self, query: Query) -> Result<u64, FleetError> {
        let row = self
            .database
            .run(move |connection| query.fetch_one(connection).boxed())
            .await?;
        Ok(row.try_get::<i64, _>(0).map_err(DatabaseError::from)?.unsigned_abs())
    }

    async fn recover_page_of_runs(&self) -> Result<u64, FleetError> {
        let query = self.database.statement(RECOVER_RUNS).bind(RUN_DEATHS).bind(PAGE);
        let before_commit = || fail::fail_point!("recover_runs.before_commit");
        let after_commit = || fail::fail_point!("recover_runs.after_commit");
        self.counted_around_commit(query, before_commit, after_commit).await
    }

    async fn settle_page_of_stops(&self) -> Result<u64, FleetError> {
        let query = self.database.statement(SETTLE_STOPS).bind(PAGE);
        let before_commit = || fail::fail_point!("settle_stops.before_commit");
        let after_commit = || fail::fail_point!("settle_stops.after_commit");
        self.counted_around_commit(query, before_commit, after_commit).await
    }

    /// As `counted`; where anything was done, tests may let the process die before its commit and after it.
    async fn counted_around_commit(
        &self,
        query: Query,
        before_commit: fn(),
        after_commit: fn(),
    ) -> Result<u64, FleetError> {
        let counted = self.database.run(move |connection| {
            async move {
                let rows: i64 = query.fetch_one(connection).await?.try_get(0)?;
                if rows > 0 {
                    // In pooler mode the transaction is still open here.
                    before_commit();
                }
                Ok(rows.unsigned_abs())
            }
            .boxed()
        });
        let rows = counted.await?;
        if rows > 0 {
            after_commit();
        }
        Ok(rows)
    }

    async fn complete_idle(&self) -> Result<u64, FleetError> {
        let query = self.database.statement(IDLE_FAN_OUTS).bind(PAGE);
        let rows = self
            .database
            .run(move |connection| query.fetch_all(connection).boxed())
            .await?;
        let (mut completed, mut failed) = (0, Failures::default());
        for row in &rows {
            let (run, path): (Uuid, String) = (
                row.try_get(0).map_err(DatabaseError::from)?,
                row.try_get(1).map_err(DatabaseError::from)?,
            );
            completed += failed.count(self.complete_fan_out_row(run, path).await.map(u64::from));
            if failed.are_many() {
                break;
            }
        }
        failed.end(completed)
    }

    async fn split_stuck(&self) -> Result<u64, FleetError> {
        let query = self
            .database
            .statement(STUCK_BATCHES)
            .bind(self.settings.max_deaths)
            .bind(PAGE);
        let rows = self
            .database
            .run(move |connection| query.fetch_all(connection).boxed())
            .await?;
        let (mut split, mut failed) = (0, Failures::default());
        for row in &rows {
            match stuck(row) {
                Ok(stuck) if stuck.ids.len() == 1 => split += failed.count(self.refuse_stuck(&stuck).await),
                Ok(stuck) => split += failed.count(self.split(&stuck).await),
                // One damaged row must not keep the others from being recovered.
                Err(error) => {
                    tracing::error!(name: "stuck_batch_unreadable", %error, "a stuck batch cannot be read; someone must look at it")
                }
            }
            if failed.are_many() {
                break;
            }
        }
        failed.end(split)
    }

    async fn split(&self, stuck: &Stuck) -> Result<u64, FleetError> {
        let halves = split_ids(&stuck.ids)?;
        let bits = split_bits(stuck);
        let query = self
            .database
            .statement(SPLIT_BATCH)
            .bind(stuck.run)
            .bind(stuck.seq)
            .bind(stuck.token)
            .bind(halves.iter().map(ItemIds::first).collect::<Vec<_>>())
            .bind(halves.iter().map(ItemIds::last).collect::<Vec<_>>())
            .bind(halves.iter().map(|half| half.len() as i32).collect::<Vec<_>>())
            .bind(halves.iter().map(ItemIds::packed).collect::<Vec<_>>())
            .bind(bits)
            .bind(self.suspect_after());
        self.affected(query).await
    }

    async fn refuse_stuck(&self, stuck: &Stuck) -> Result<u64, FleetError> {
        let item = stuck.ids.first();
        let query = self
            .database
            .statement(REFUSE_STUCK_BATCH)
            .bind(stuck.run)
            .bind(stuck.seq)
            .bind(stuck.token)
            .bind(pack_ids(item, &[item]))
            .bind(Uuid::now_v7())
            .bind(message_id(stuck.origin_id, &stuck.step, item));
        self.affected(query).await
    }
}

/// What failed of a pass over rows. A row that fails each time must not keep those behind it from their turn, since every
/// pass begins with it; when many fail it is the database, which is not asked for each of the rest.
#[derive(Default)]
pub(super) struct Failures {
    first: Option<FleetError>,
    count: usize,
}

impl Failures {
    /// How much was done; nothing when it failed.
    pub(super) fn count(&mut self, done: Result<u64, FleetError>) -> u64 {
        done.unwrap_or_else(|error| {
            self.first.get_or_insert(error);
            self.count += 1;
            0
        })
    }

    pub(super) fn are_many(&self) -> bool {
        self.count >= MANY
    }

    /// What was done, if nothing failed.
    pub(super) fn end<T>(self, done: T) -> Result<T, FleetError> {
        self.first.map_or(Ok(done), Err)
    }
}

type Query = sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// Page after page, as long as they are full; answers how many rows that were.
async fn pages<F: Future<Output = Result<u64, FleetError>>>(page: impl Fn() -> F) -> Result<u64, FleetError> {
    let mut all = 0;
    for _ in 0..PAGES {
        let rows = page().await?;
        all += rows;
        if rows < PAGE.unsigned_abs() {
            break;
        }
    }
    Ok(all)
}

fn split_ids(ids: &ItemIds) -> Result<[ItemIds; 2], FleetError> {
    let (low, high) = ids.as_slice().split_at(ids.len() / 2);
    let half = |ids: &[i64]| ItemIds::new(ids.to_vec()).map_err(|error| FleetError::Damaged(error.to_string()));
    Ok([half(low)?, half(high)?])
}

/// What was acknowledged of the parent stays acknowledged in the halves.
fn split_bits(stuck: &Stuck) -> Vec<Option<Vec<u8>>> {
    let count = stuck.ids.len();
    let Some(bits) = &stuck.delivered_bits else {
        return vec![None, None];
    };
    let slice = |range: std::ops::Range<usize>| {
        let mut half = vec![0u8; range.len().div_ceil(8)];
        for (at, index) in range.enumerate() {
            if bits.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1) {
                half[at / 8] |= 1 << (at % 8);
            }
        }
        Some(half)
    };
    vec![slice(0..count / 2), slice(count / 2..count)]
}

fn stuck(row: &PgRow) -> Result<Stuck, FleetError> {
    let (run, seq) = read_key(row).map_err(DatabaseError::from)?;
    let (first, last, count, packed) = read_ids(row).map_err(DatabaseError::from)?;
    let ids = ItemIds::from_stored(first, last, count, packed.as_deref())
        .map_err(|error| FleetError::Damaged(format!("batch {seq} of run {run}: {error}")))?;
    let read = || -> Result<Stuck, sqlx::Error> {
        Ok(Stuck {
            run,
            seq,
            ids: ids.clone(),
            token: row.try_get("claim_token")?,
            step: row.try_get("step")?,
            origin_id: row.try_get("origin_id")?,
            delivered_bits: row.try_get("delivered_bits")?,
        })
    };
    Ok(read().map_err(DatabaseError::from)?)
}
