//! Renewing leases and giving them back.

use futures::FutureExt;
use sqlx::Row;

use super::PostgresFleet;
use crate::lifecycle::{FleetError, HandBack, NotRenewed, Renewal, RunClaim, Unrenewed};
use crate::postgres::database::DatabaseError;

const RENEW_LEASES: &str = include_str!("../../../queries/renew_leases.sql");
const HAND_BACK_BATCHES: &str = include_str!("../../../queries/hand_back_batches.sql");

impl PostgresFleet {
    pub(super) async fn renew(&self, batches: Vec<Renewal>, runs: Vec<RunClaim>) -> Result<Unrenewed, FleetError> {
        let claims = || batches.iter().map(|renewal| renewal.claim);
        let query = self
            .database
            .statement(RENEW_LEASES)
            .bind(claims().map(|claim| claim.run).collect::<Vec<_>>())
            .bind(claims().map(|claim| claim.seq).collect::<Vec<_>>())
            .bind(claims().map(|claim| claim.token).collect::<Vec<_>>())
            .bind(claims().map(|claim| claim.claim_id).collect::<Vec<_>>())
            .bind(
                batches
                    .iter()
                    .map(|renewal| renewal.delivered_bits.clone())
                    .collect::<Vec<_>>(),
            )
            .bind(runs.iter().map(|claim| claim.run).collect::<Vec<_>>())
            .bind(runs.iter().map(|claim| claim.token).collect::<Vec<_>>())
            .bind(runs.iter().map(|claim| claim.claim_id).collect::<Vec<_>>())
            .bind(self.lease_secs());
        let rows = self
            .database
            .run(move |connection| query.fetch_all(connection).boxed())
            .await?;
        let mut unrenewed = Unrenewed::default();
        for row in &rows {
            let (kind, at): (&str, i64) = (
                row.try_get(0).map_err(DatabaseError::from)?,
                row.try_get(1).map_err(DatabaseError::from)?,
            );
            let why = if row.try_get(2).map_err(DatabaseError::from)? {
                NotRenewed::Gone
            } else {
                NotRenewed::Busy
            };
            let at = usize::try_from(at - 1).unwrap_or(usize::MAX);
            match kind {
                "batch" => {
                    let claim = batches.get(at).map(|renewal| renewal.claim);
                    unrenewed.batches.extend(claim.map(|claim| (claim, why)));
                }
                _ => unrenewed.runs.extend(runs.get(at).map(|claim| (*claim, why))),
            }
        }
        Ok(unrenewed)
    }

    pub(super) async fn hand_back(&self, batches: Vec<HandBack>) -> Result<u64, FleetError> {
        let claims = || batches.iter().map(|back| back.claim);
        let query = self
            .database
            .statement(HAND_BACK_BATCHES)
            .bind(claims().map(|claim| claim.run).collect::<Vec<_>>())
            .bind(claims().map(|claim| claim.seq).collect::<Vec<_>>())
            .bind(claims().map(|claim| claim.token).collect::<Vec<_>>())
            .bind(claims().map(|claim| claim.claim_id).collect::<Vec<_>>())
            .bind(
                batches
                    .iter()
                    .map(|back| back.delivered_bits.clone())
                    .collect::<Vec<_>>(),
            )
            .bind(batches.iter().map(|back| back.delay.as_secs_f64()).collect::<Vec<_>>())
            .bind(batches.iter().map(|back| back.reason.to_owned()).collect::<Vec<_>>())
            .bind(self.settings.replica);
        // The audit of the statement counts what was ours.
        let audited = self
            .database
            .run(move |connection| query.execute(connection).boxed())
            .await?;
        Ok(audited.rows_affected())
    }
}
