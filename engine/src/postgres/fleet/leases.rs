//! Renewing leases and giving them back.

use futures::FutureExt;
use sqlx::Row;

use super::PostgresFleet;
use crate::lifecycle::{FleetError, HandBack, Lost, Renewal, RunClaim};
use crate::postgres::database::DatabaseError;

const RENEW_LEASES: &str = include_str!("../../../queries/renew_leases.sql");
const HAND_BACK_BATCHES: &str = include_str!("../../../queries/hand_back_batches.sql");

impl PostgresFleet {
    pub(super) async fn renew(&self, batches: Vec<Renewal>, runs: Vec<RunClaim>) -> Result<Lost, FleetError> {
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
        let mut lost = Lost::default();
        for row in &rows {
            let (kind, at): (&str, i64) = (
                row.try_get(0).map_err(DatabaseError::from)?,
                row.try_get(1).map_err(DatabaseError::from)?,
            );
            let at = usize::try_from(at - 1).unwrap_or(usize::MAX);
            match kind {
                "batch" => lost.batches.extend(batches.get(at).map(|renewal| renewal.claim)),
                _ => lost.runs.extend(runs.get(at)),
            }
        }
        Ok(lost)
    }

    pub(super) async fn hand_back(&self, batches: Vec<HandBack>) -> Result<(), FleetError> {
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
        self.database
            .run(move |connection| query.execute(connection).boxed())
            .await?;
        Ok(())
    }
}
