//! Claiming and finishing batches.

use std::time::Duration;

use futures::FutureExt;
use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::PostgresFleet;
use crate::lifecycle::{
    Batch, BatchClaim, BatchOutcome, Ended, FleetError, ItemIds, RunId, Runnable, UndeliveredItem, pack_ids,
};
use crate::postgres::database::DatabaseError;

const CLAIMABLE_RUNS: &str = include_str!("../../../queries/claimable_runs.sql");
const CLAIM_NEXT_BATCH: &str = include_str!("../../../queries/claim_next_batch.sql");
const FINISH_AND_CLAIM_BATCH: &str = include_str!("../../../queries/finish_and_claim_batch.sql");
const MARK_ALONE: &str = include_str!("../../../queries/mark_alone.sql");
const FINISH_BATCH: &str = include_str!("../../../queries/finish_batch.sql");
const BATCH_WAS_FINISHED: &str = include_str!("../../../queries/batch_was_finished.sql");
const FIND_BATCH_CLAIM: &str = include_str!("../../../queries/find_batch_claim.sql");

impl PostgresFleet {
    pub(super) async fn claimable(
        &self,
        runnable: &[Runnable],
        without: Vec<RunId>,
        behind: Option<RunId>,
        at_most: i64,
    ) -> Result<Vec<RunId>, FleetError> {
        let query = self
            .database
            .statement(CLAIMABLE_RUNS)
            .bind(runnable.iter().flat_map(Runnable::replayed).collect::<Vec<_>>())
            .bind(without)
            .bind(at_most)
            .bind(behind);
        let rows = self
            .database
            .run(move |connection| query.fetch_all(connection).boxed())
            .await?;
        Ok(rows
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, _>>()
            .map_err(DatabaseError::from)?)
    }

    pub(super) async fn claim_next(&self, run: RunId, claim_id: Uuid) -> Result<Option<Batch>, FleetError> {
        let query = self
            .database
            .statement(CLAIM_NEXT_BATCH)
            .bind(run)
            .bind(claim_id)
            .bind(self.settings.replica)
            .bind(self.lease_secs());
        let row = self
            .database
            .run(move |connection| {
                async move {
                    let claimed = query.fetch_optional(connection).await?;
                    // In pooler mode the transaction is still open here.
                    fail::fail_point!("claim.before_commit");
                    Ok(claimed)
                }
                .boxed()
            })
            .await?;
        row.as_ref().map(batch).transpose()
    }

    pub(super) async fn mark_alone_row(&self, claim: BatchClaim) -> Result<Ended, FleetError> {
        let query = self.fenced_batch(MARK_ALONE, claim);
        let rows = self
            .database
            .run(move |connection| query.execute(connection).boxed())
            .await?;
        Ok(if rows.rows_affected() == 1 {
            Ended::Done
        } else {
            Ended::Lost
        })
    }

    pub(super) async fn finish_and_claim(
        &self,
        claim: BatchClaim,
        next_run: RunId,
        next_claim_id: Uuid,
    ) -> Result<(Ended, Option<Batch>), FleetError> {
        let query = self
            .database
            .statement(FINISH_AND_CLAIM_BATCH)
            .bind(next_run)
            .bind(next_claim_id)
            .bind(self.settings.replica)
            .bind(self.lease_secs())
            .bind(claim.run)
            .bind(claim.seq)
            .bind(claim.token)
            .bind(claim.claim_id);
        let row = self
            .database
            .run(move |connection| query.fetch_one(connection).boxed())
            .await?;
        if !row.try_get::<bool, _>("finished").map_err(DatabaseError::from)? {
            return Ok((self.ended_earlier(claim).await?, None));
        }
        let claimed = row
            .try_get::<Option<i32>, _>("seq")
            .map_err(DatabaseError::from)?
            .is_some();
        Ok((Ended::Done, if claimed { Some(batch(&row)?) } else { None }))
    }

    pub(super) async fn finish_with_outcome(
        &self,
        claim: BatchClaim,
        ids: &ItemIds,
        outcome: &BatchOutcome,
    ) -> Result<Ended, FleetError> {
        let (refused, unknown): (Vec<_>, Vec<_>) = outcome.undelivered.iter().partition(|item| item.refused);
        let listed = refused.len() + unknown.len() + outcome.skipped.len() + outcome.vanished.len();
        if outcome.delivered + listed != ids.len() {
            return Err(FleetError::Damaged(format!(
                "batch {} of run {} has {} items, {} outcomes",
                claim.seq,
                claim.run,
                ids.len(),
                outcome.delivered + listed
            )));
        }
        let sorted = |items: &[&UndeliveredItem]| {
            let mut ids: Vec<i64> = items.iter().map(|item| item.item).collect();
            ids.sort_unstable();
            ids
        };
        let base = ids.first();
        let list = |ids: &[i64]| (!ids.is_empty()).then(|| pack_ids(base, ids));
        let query = self
            .database
            .statement(FINISH_BATCH)
            .bind(claim.run)
            .bind(claim.seq)
            .bind(claim.token)
            .bind(claim.claim_id)
            .bind(self.settings.replica)
            .bind(outcome.delivered as i32)
            .bind(refused.len() as i32)
            .bind(unknown.len() as i32)
            .bind(outcome.skipped.len() as i32)
            .bind(outcome.vanished.len() as i32)
            .bind(list(&sorted(&refused)))
            .bind(list(&sorted(&unknown)))
            .bind(list(&outcome.skipped))
            .bind(list(&outcome.vanished))
            .bind(self.settings.first_redelivery.as_secs_f64());
        let query = bind_undelivered(query, &outcome.undelivered);
        let rows = self
            .database
            .run(move |connection| query.execute(connection).boxed())
            .await?;
        if rows.rows_affected() == 1 {
            Ok(Ended::Done)
        } else {
            self.ended_earlier(claim).await
        }
    }

    fn fenced_batch(
        &self,
        sql: &'static str,
        claim: BatchClaim,
    ) -> sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments> {
        self.database
            .statement(sql)
            .bind(claim.run)
            .bind(claim.seq)
            .bind(claim.token)
            .bind(claim.claim_id)
    }

    /// No row: either this very claim finished it and the answer was lost, or somebody took over.
    async fn ended_earlier(&self, claim: BatchClaim) -> Result<Ended, FleetError> {
        let query = self.fenced_batch(BATCH_WAS_FINISHED, claim);
        let row = self
            .database
            .run(move |connection| query.fetch_one(connection).boxed())
            .await?;
        let finished = row.try_get(0).map_err(DatabaseError::from)?;
        Ok(if finished { Ended::Done } else { Ended::Lost })
    }

    pub(super) async fn find_claim(&self, run: RunId, claim_id: Uuid) -> Result<Option<Batch>, FleetError> {
        let query = self.database.statement(FIND_BATCH_CLAIM).bind(run).bind(claim_id);
        let row = self
            .database
            .run(move |connection| query.fetch_optional(connection).boxed())
            .await?;
        row.as_ref().map(batch).transpose()
    }
}

type Query = sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments>;

fn bind_undelivered(query: Query, items: &[UndeliveredItem]) -> Query {
    fn column<T>(items: &[UndeliveredItem], value: impl Fn(&UndeliveredItem) -> T) -> Vec<T> {
        items.iter().map(value).collect()
    }
    query
        .bind(column(items, |_| Uuid::now_v7()))
        .bind(column(items, |item| item.message_id))
        .bind(column(items, |item| item.item))
        .bind(column(items, |item| item.refused))
        .bind(column(items, |item| item.code.clone()))
        .bind(column(items, |item| item.reason.clone()))
        .bind(column(items, |item| item.command_type.clone()))
        .bind(column(items, |item| item.topic.clone()))
        .bind(column(items, |item| item.key.clone()))
        .bind(column(items, |item| serde_json::json!(item.headers)))
        .bind(column(items, |item| item.payload.clone()))
}

fn batch(row: &PgRow) -> Result<Batch, FleetError> {
    let (first, last, count, packed) = read_ids(row).map_err(DatabaseError::from)?;
    let (run, seq): (Uuid, i32) = read_key(row).map_err(DatabaseError::from)?;
    let ids = ItemIds::from_stored(first, last, count, packed.as_deref())
        .map_err(|error| FleetError::Damaged(format!("batch {seq} of run {run}: {error}")))?;
    build(row, run, seq, ids).map_err(|error| DatabaseError::from(error).into())
}

/// What a row holds of a batch's items: first, last, how many, and the packed list of those that are not contiguous.
pub(super) type StoredIds = (i64, i64, i32, Option<Vec<u8>>);

pub(super) fn read_ids(row: &PgRow) -> Result<StoredIds, sqlx::Error> {
    Ok((
        row.try_get("first_id")?,
        row.try_get("last_id")?,
        row.try_get("n_items")?,
        row.try_get("ids")?,
    ))
}

pub(super) fn read_key(row: &PgRow) -> Result<(Uuid, i32), sqlx::Error> {
    Ok((row.try_get("run_id")?, row.try_get("seq")?))
}

fn build(row: &PgRow, run: Uuid, seq: i32, ids: ItemIds) -> Result<Batch, sqlx::Error> {
    let pace: Option<i32> = row.try_get("pace_per_s")?;
    let wait: Option<f64> = row.try_get("pace_wait_s")?;
    Ok(Batch {
        claim: BatchClaim {
            run,
            seq,
            token: row.try_get("claim_token")?,
            claim_id: row.try_get("claim_id")?,
        },
        step: row.try_get("step")?,
        ids,
        delivered_bits: row.try_get("delivered_bits")?,
        pace_per_s: pace.and_then(|pace| u32::try_from(pace).ok()),
        attempts: row.try_get::<i16, _>("attempts")?.unsigned_abs(),
        pace_wait: Duration::try_from_secs_f64(wait.unwrap_or_default()).unwrap_or_default(),
    })
}
