//! Planning: batches and cursor in one statement.

use futures::FutureExt;
use sqlx::Row;

use super::PostgresFleet;
use crate::lifecycle::{FleetError, Kind, PlanChunk, PlanProgress, RunClaim, RunId, StepState, storable_reason};
use crate::postgres::database::DatabaseError;
use crate::postgres::run_store::rows::{read_steps, steps_of};

const OPEN_FAN_OUT: &str = include_str!("../../../queries/open_fan_out.sql");
const DISCARD_PLAN: &str = include_str!("../../../queries/discard_plan.sql");
const NOTE_PLAN_TROUBLE: &str = include_str!("../../../queries/note_plan_trouble.sql");
const PLAN_CHUNK: &str = include_str!("../../../queries/plan_chunk.sql");
const WAITING_BATCHES: &str = include_str!("../../../queries/waiting_batches.sql");
const COMPLETE_FAN_OUT: &str = include_str!("../../../queries/complete_fan_out.sql");

impl PostgresFleet {
    pub(super) async fn open_fan_out_row(
        &self,
        claim: RunClaim,
        path: String,
        consistent: bool,
    ) -> Result<Option<StepState>, FleetError> {
        let open = self
            .database
            .statement(OPEN_FAN_OUT)
            .bind(claim.run)
            .bind(claim.token)
            .bind(claim.claim_id)
            .bind(path.clone())
            .bind(consistent);
        let discard = self
            .database
            .statement(DISCARD_PLAN)
            .bind(claim.run)
            .bind(claim.token)
            .bind(claim.claim_id)
            .bind(path.clone());
        let steps = steps_of(&self.database, vec![claim.run], Some(Kind::FanOut));
        let found = self
            .database
            .transaction(move |connection| {
                async move {
                    open.execute(&mut *connection).await?;
                    if consistent {
                        discard.execute(&mut *connection).await?;
                    }
                    let found = read_steps(connection, steps).await?.remove(&claim.run);
                    Ok(found.unwrap_or_default())
                }
                .boxed()
            })
            .await?;
        Ok(found.into_iter().find(|step| step.path == path))
    }

    pub(super) async fn note_plan_trouble_row(
        &self,
        claim: RunClaim,
        path: String,
        trouble: &str,
    ) -> Result<(), FleetError> {
        let query = self
            .database
            .statement(NOTE_PLAN_TROUBLE)
            .bind(claim.run)
            .bind(path)
            .bind(claim.token)
            .bind(claim.claim_id)
            .bind(storable_reason(trouble));
        self.database
            .run(move |connection| query.execute(connection).boxed())
            .await?;
        Ok(())
    }

    pub(super) async fn plan_chunk_rows(&self, claim: RunClaim, chunk: &PlanChunk) -> Result<PlanProgress, FleetError> {
        let size = chunk.batches.len();
        let (mut firsts, mut lasts) = (Vec::with_capacity(size), Vec::with_capacity(size));
        let (mut counts, mut packed) = (Vec::with_capacity(size), Vec::with_capacity(size));
        for batch in &chunk.batches {
            firsts.push(batch.ids.first());
            lasts.push(batch.ids.last());
            counts.push(batch.ids.len() as i32);
            packed.push(batch.ids.packed());
        }
        let query = self
            .database
            .statement(PLAN_CHUNK)
            .bind(claim.run)
            .bind(claim.token)
            .bind(claim.claim_id)
            .bind(chunk.path.clone())
            .bind(chunk.after)
            .bind(chunk.last)
            .bind(firsts)
            .bind(lasts)
            .bind(counts)
            .bind(packed);
        let row = self
            .database
            .run(move |connection| query.fetch_one(connection).boxed())
            .await?;
        let read = |name: &str| row.try_get::<bool, _>(name).map_err(DatabaseError::from);
        Ok(match (read("held")?, read("written")?, read("mine")?) {
            (true, true, _) => PlanProgress::Written,
            (false, _, true) => PlanProgress::Halted,
            _ => PlanProgress::Lost,
        })
    }

    pub(super) async fn count_waiting(&self, run: RunId, at_most: i64) -> Result<i64, FleetError> {
        let query = self.database.statement(WAITING_BATCHES).bind(run).bind(at_most);
        let row = self
            .database
            .run(move |connection| query.fetch_one(connection).boxed())
            .await?;
        Ok(row.try_get(0).map_err(DatabaseError::from)?)
    }

    pub(super) async fn complete_fan_out_row(&self, run: RunId, path: String) -> Result<bool, FleetError> {
        let query = self.database.statement(COMPLETE_FAN_OUT).bind(run).bind(path);
        let rows = self
            .database
            .run(move |connection| query.execute(connection).boxed())
            .await?;
        Ok(rows.rows_affected() == 1)
    }
}
