//! The verbs of the relay on Postgres.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::FutureExt;
use sqlx::{Row, postgres::PgArguments, postgres::PgRow};
use uuid::Uuid;

use super::database::{Database, DatabaseError};
use super::undelivered::error_text;
use crate::delivery::{
    DueRoute, DueRoutes, Failure, Headers, LaneClaim, OutboxRow, OutboxStore, Place, RefusedRow, SettledPage, Settling,
};
use crate::lifecycle::FleetError;

const DUE_ROUTES: &str = include_str!("../../queries/due_routes.sql");
const CLAIM_LANES: &str = include_str!("../../queries/claim_lanes.sql");
const RENEW_LANE: &str = include_str!("../../queries/renew_lane.sql");
const REFUSE_OUTBOX: &str = include_str!("../../queries/refuse_outbox.sql");
const SETTLE_OUTBOX: &str = include_str!("../../queries/settle_outbox.sql");
const RELEASE_LANE: &str = include_str!("../../queries/release_lane.sql");

/// The outbox, as one replica claims and sends its lanes.
#[derive(Debug, Clone)]
pub struct PostgresOutbox {
    database: Database,
    replica: Uuid,
}

type Query = sqlx::query::Query<'static, sqlx::Postgres, PgArguments>;

impl PostgresOutbox {
    /// The verbs of one replica.
    #[must_use]
    pub fn new(database: Database, replica: Uuid) -> Self {
        Self { database, replica }
    }

    /// A statement planned for its values each time. The outbox is empty and then holds a million rows; a plan kept from
    /// when it was empty reads all of them for every page.
    fn planned_anew(&self, sql: &'static str) -> Query {
        self.database.statement(sql).persistent(false)
    }

    async fn rows(&self, query: Query) -> Result<Vec<PgRow>, FleetError> {
        let rows = self.database.run(move |connection| query.fetch_all(connection).boxed());
        Ok(rows.await?)
    }

    async fn held(&self, query: Query) -> Result<bool, FleetError> {
        let done = self.database.run(move |connection| query.execute(connection).boxed());
        Ok(done.await?.rows_affected() == 1)
    }

    async fn refuse_outbox(&self, claim: &LaneClaim, refused: &[RefusedRow], topic: &str) -> Result<(), FleetError> {
        let reason = |failure: &Failure| error_text(&format!("{}: {}", failure.code, failure.detail));
        let column = |of: fn(&RefusedRow) -> String| refused.iter().map(of).collect::<Vec<_>>();
        let query = self
            .fenced(REFUSE_OUTBOX, claim)
            .bind(self.replica)
            .bind(refused.iter().map(|row| row.seq).collect::<Vec<_>>())
            .bind(refused.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
            .bind(column(|row| write_headers(&row.headers)))
            .bind(column(|row| row.failure.code.to_owned()))
            .bind(refused.iter().map(|row| reason(&row.failure)).collect::<Vec<_>>())
            .bind(topic.to_owned());
        self.rows(query).await?;
        Ok(())
    }

    fn fenced(&self, sql: &'static str, claim: &LaneClaim) -> Query {
        let query = self.database.statement(sql);
        query.bind(claim.lane).bind(claim.token).bind(claim.claim_id)
    }
}

#[async_trait]
impl OutboxStore for PostgresOutbox {
    async fn due_routes(&self, behind: Option<&(i16, String)>) -> Result<DueRoutes, FleetError> {
        let (lane, route) = behind.cloned().unwrap_or((-1, String::new()));
        let query = self.planned_anew(DUE_ROUTES).bind(lane).bind(route);
        let rows = self.rows(query).await?;
        Ok(read_routes(&rows).map_err(DatabaseError::from)?)
    }

    async fn claim_lanes(&self, claim_id: Uuid, lanes: &[i16], lease: Duration) -> Result<Vec<LaneClaim>, FleetError> {
        let query = self
            .database
            .statement(CLAIM_LANES)
            .bind(claim_id)
            .bind(lanes.to_vec())
            .bind(self.replica)
            .bind(lease.as_secs_f64());
        let rows = self.rows(query).await?;
        let claim = |row: &PgRow| {
            let lane = row.try_get("lane")?;
            if let Some(replica) = row.try_get::<Option<Uuid>, _>("taken_from")? {
                tracing::warn!(name: "lane_taken_over", lane, %replica, "took a lane of the outbox from a replica whose lease has ended");
            }
            Ok(LaneClaim {
                lane,
                token: row.try_get("claim_token")?,
                claim_id,
            })
        };
        let claims: Result<_, sqlx::Error> = rows.iter().map(claim).collect();
        Ok(claims.map_err(DatabaseError::from)?)
    }

    async fn renew_lane(&self, claim: &LaneClaim, lease: Duration) -> Result<bool, FleetError> {
        self.held(self.fenced(RENEW_LANE, claim).bind(lease.as_secs_f64()))
            .await
    }

    async fn settle_outbox(
        &self,
        claim: &LaneClaim,
        settling: &Settling,
    ) -> Result<Option<Vec<OutboxRow>>, FleetError> {
        let SettledPage { delivered, refused } = &settling.settled;
        if !refused.is_empty() {
            // Hardly ever. First, for then what is not deleted is at worst sent again.
            self.refuse_outbox(claim, refused, &settling.topic).await?;
            fail::fail_point!("outbox.after_refuse");
        }
        let next = settling.next.as_ref();
        let after = next.map(|next| next.after).unwrap_or_default();
        let query = self
            .planned_anew(SETTLE_OUTBOX)
            .bind(claim.lane)
            .bind(claim.token)
            .bind(claim.claim_id)
            .bind(delivered.clone())
            .bind(next.map(|next| next.route.clone()))
            .bind(after.not_before)
            .bind(after.seq)
            .bind(next.map_or(0, |next| i64::from(next.rows)))
            .bind(next.map_or(0, |next| i64::try_from(next.bytes).unwrap_or(i64::MAX)));
        let rows = self.rows(query).await?;
        let page = read_page(&rows).map_err(DatabaseError::from)?;
        Ok(page)
    }

    async fn release_lane(&self, claim: &LaneClaim, last_error: Option<&str>) -> Result<bool, FleetError> {
        let query = self.fenced(RELEASE_LANE, claim);
        self.held(query.bind(last_error.map(error_text))).await
    }
}

fn read_routes(rows: &[PgRow]) -> Result<DueRoutes, sqlx::Error> {
    let mut due = DueRoutes::default();
    for row in rows {
        let (lane, route) = (row.try_get("lane")?, row.try_get("route")?);
        if row.try_get("is_last")? {
            due.more_behind = Some((lane, route));
            continue;
        }
        due.routes.push(DueRoute {
            lane,
            route,
            free: row.try_get("free")?,
        });
    }
    Ok(due)
}

/// The rows of a page; none: the lane was not held. A row without a place says only whether it was.
fn read_page(rows: &[PgRow]) -> Result<Option<Vec<OutboxRow>>, sqlx::Error> {
    let mut page = Vec::with_capacity(rows.len());
    for row in rows {
        if !row.try_get::<bool, _>("held")? {
            return Ok(None);
        }
        let Some(seq) = row.try_get::<Option<i64>, _>("seq")? else {
            continue;
        };
        page.push(OutboxRow {
            place: Place {
                not_before: row.try_get::<Option<DateTime<Utc>>, _>("not_before")?,
                seq,
            },
            message_id: row.try_get("message_id")?,
            key: row.try_get("key")?,
            headers: read_headers(row.try_get("headers")?),
            payload: row.try_get("payload")?,
        });
    }
    Ok(Some(page))
}

/// Headers as they are stored: a JSON array of names and values, most of them without anything to unescape. What somebody
/// stored in another form must not keep those behind it from being sent.
fn read_headers(stored: &str) -> Option<Headers> {
    if let Ok(pairs) = serde_json::from_str::<Vec<(&str, &str)>>(stored) {
        return Some(pairs.into_iter().collect());
    }
    let pairs: Vec<(String, String)> = serde_json::from_str(stored).ok()?;
    Some(pairs.into_iter().collect())
}

fn write_headers(headers: &Headers) -> String {
    let pairs = headers
        .iter()
        .map(|(name, value)| (name, String::from_utf8_lossy(value)));
    serde_json::json!(pairs.collect::<Vec<_>>()).to_string()
}
