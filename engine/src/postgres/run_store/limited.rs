//! Claiming runs of queues that have limits, and what there is to know of queues.

use std::time::Duration;

use futures::FutureExt;
use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use super::claim::{Asked, asked, claims_of, read_past};
use super::{PostgresRunStore, Query, SUSPECT_AFTER};
use crate::lifecycle::{ClaimPage, FleetError, LimitedClaim, QueueNews, QueueRule, RunId, Share};
use crate::postgres::database::Database;

const LOCK_QUEUE: &str = include_str!("../../../queries/lock_queue.sql");
const PICK_LIMITED_RUNS: &str = include_str!("../../../queries/pick_limited_runs.sql");
const PICK_RUNS_BY_TURN: &str = include_str!("../../../queries/pick_runs_by_turn.sql");
const CLAIM_PICKED_RUNS: &str = include_str!("../../../queries/claim_picked_runs.sql");
const NOTE_TURN: &str = include_str!("../../../queries/note_turn.sql");
const READ_QUEUES: &str = include_str!("../../../queries/read_queues.sql");
const WAITING_QUEUES: &str = include_str!("../../../queries/waiting_queues.sql");
const SUSPECT_QUEUES: &str = include_str!("../../../queries/suspect_queues.sql");

/// Before whoever found a queue's row locked asks again: a claim takes a few milliseconds.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// Nobody asks for the next token more often.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
/// Before whoever found nothing, among as many as one looks at, looks at the next.
const VAIN_PAUSE: Duration = Duration::from_millis(100);

/// What the locked row of a queue says.
struct Gate {
    paused: bool,
    fair: bool,
    per_key: bool,
    rate_per_s: Option<f64>,
    /// Tokens that are left; none: as many as one likes.
    allowance: Option<f64>,
}

/// What was picked of a queue.
#[derive(Default)]
struct Picked {
    /// Runs that go on in a place that they hold.
    again: Vec<RunId>,
    /// Runs that take a place.
    fit: Vec<RunId>,
    /// For how many there was room.
    room: i64,
    /// How many were looked at.
    seen: i64,
    /// The tenant and key whose turn was last.
    turn: (Option<String>, Option<String>),
    /// There are more tenants and keys than were looked at, or some have more than was their share.
    more: bool,
}

/// A claim from one queue: its statements need the same values.
struct Claim {
    database: Database,
    asked: Asked,
    share: Share,
    claim_id: Uuid,
    replica: Uuid,
    lease: Duration,
    suspects: bool,
}

impl PostgresRunStore {
    pub(super) async fn claim_limited_page(&self, page: &ClaimPage) -> Result<LimitedClaim, FleetError> {
        let Some(share) = page.shares.first() else {
            return Ok(Default::default());
        };
        let claim = Claim {
            database: self.database.clone(),
            asked: asked(page),
            share: share.clone(),
            claim_id: page.claim_id,
            replica: self.replica,
            lease: self.lease,
            suspects: page.suspects,
        };
        // The picks and what they cost are committed together: a place that nobody holds cannot be.
        let claimed = self.database.transaction(move |connection| {
            async move {
                let claimed = claim.run(connection).await?;
                fail::fail_point!("limits.before_commit");
                Ok(claimed)
            }
            .boxed()
        });
        let (mut claimed, begun) = claimed.await?;
        if !claimed.runs.is_empty() {
            fail::fail_point!("limits.after_claim");
            let database = self.database.clone();
            let read = self.database.run(move |connection| {
                async move {
                    read_past(&database, connection, begun, &mut claimed.runs).await?;
                    Ok(claimed)
                }
                .boxed()
            });
            claimed = read.await?;
        }
        Ok(claimed)
    }

    pub(super) async fn read_queue_rows(&self, workflows: &[String]) -> Result<QueueNews, FleetError> {
        let query = self.database.statement(READ_QUEUES).bind(workflows.to_vec());
        let news = self.database.run(move |connection| {
            async move {
                let mut news = QueueNews::default();
                for row in &query.fetch_all(connection).await? {
                    match row.try_get("limited")? {
                        Some(limited) => news.rules.push(rule(row, limited)?),
                        None => news.named.push(row.try_get("name")?),
                    }
                }
                Ok(news)
            }
            .boxed()
        });
        Ok(news.await?)
    }

    pub(super) async fn waiting_queue_rows(&self, queues: &[String]) -> Result<Vec<String>, FleetError> {
        self.queue_names(self.database.statement(WAITING_QUEUES).bind(queues.to_vec()))
            .await
    }

    pub(super) async fn suspect_queue_rows(&self) -> Result<Vec<String>, FleetError> {
        self.queue_names(self.database.statement(SUSPECT_QUEUES)).await
    }

    async fn queue_names(&self, query: Query) -> Result<Vec<String>, FleetError> {
        let found = self
            .database
            .run(move |connection| async move { names(&query.fetch_all(connection).await?) }.boxed());
        Ok(found.await?)
    }
}

impl Claim {
    /// What it got, and which runs of it may have steps.
    async fn run(self, connection: &mut PgConnection) -> Result<(LimitedClaim, Vec<RunId>), sqlx::Error> {
        let lock = self.database.statement(LOCK_QUEUE).bind(self.share.queue.clone());
        let Some(gate) = lock.fetch_optional(&mut *connection).await?.as_ref().map(gate) else {
            // Somebody else claims from it this moment, or it has no limits any more.
            let busy = LimitedClaim {
                again: Some(BUSY_PAUSE),
                ..LimitedClaim::default()
            };
            return Ok((busy, Vec::new()));
        };
        let gate = gate?;
        if gate.paused {
            return Ok(Default::default());
        }
        let picked = self.pick(connection, &gate).await?;
        let spent = picked.fit.len();
        if (gate.rate_per_s.is_some() && spent > 0) || picked.turn.0.is_some() {
            self.note(connection, &picked).await?;
        }
        let again = next_look(&gate, &picked);
        let ids: Vec<RunId> = picked.again.into_iter().chain(picked.fit).collect();
        if ids.is_empty() {
            let nothing = LimitedClaim {
                again,
                ..LimitedClaim::default()
            };
            return Ok((nothing, Vec::new()));
        }
        let (runs, begun) = claims_of(self.claim_query(ids), self.claim_id, connection).await?;
        Ok((LimitedClaim { runs, again }, begun))
    }

    async fn pick(&self, connection: &mut PgConnection, gate: &Gate) -> Result<Picked, sqlx::Error> {
        let query = self
            .database
            .statement(PICK_LIMITED_RUNS)
            .bind(self.share.queue.clone())
            .bind(i64::from(self.share.take))
            .bind(self.asked.names.clone())
            .bind(self.asked.replayed.clone())
            .bind(gate.allowance)
            .bind(SUSPECT_AFTER)
            .bind(self.suspects);
        let Some(row) = query.fetch_optional(&mut *connection).await? else {
            return Ok(Picked::default());
        };
        let mut picked = Picked {
            again: row.try_get("again")?,
            fit: row.try_get("fit")?,
            seen: row.try_get("seen")?,
            room: row.try_get("room")?,
            ..Picked::default()
        };
        let left = picked.room - i64::try_from(picked.fit.len()).unwrap_or(i64::MAX);
        // A whole page was looked at and some of it is of full keys: what stands behind them is found by its key.
        let is_hidden = gate.per_key && picked.seen >= picked.room;
        if left > 0 && (gate.fair || is_hidden) {
            self.pick_by_turn(connection, &mut picked, left).await?;
        }
        Ok(picked)
    }

    async fn pick_by_turn(
        &self,
        connection: &mut PgConnection,
        picked: &mut Picked,
        room: i64,
    ) -> Result<(), sqlx::Error> {
        let query = self
            .database
            .statement(PICK_RUNS_BY_TURN)
            .bind(self.share.queue.clone())
            .bind(self.asked.names.clone())
            .bind(self.asked.replayed.clone())
            .bind(SUSPECT_AFTER)
            .bind(self.suspects)
            .bind(picked.fit.clone())
            .bind(room);
        if let Some(row) = query.fetch_optional(connection).await? {
            picked.fit.extend(row.try_get::<Vec<RunId>, _>("fit")?);
            picked.turn = (row.try_get("last_tenant")?, row.try_get("last_key")?);
            picked.more = row.try_get("more")?;
        }
        Ok(())
    }

    fn claim_query(&self, ids: Vec<RunId>) -> Query {
        self.database
            .statement(CLAIM_PICKED_RUNS)
            .bind(ids)
            .bind(self.asked.names.clone())
            .bind(self.asked.newest.clone())
            .bind(self.claim_id)
            .bind(self.replica)
            .bind(self.lease.as_secs_f64())
            .bind(self.suspects)
            .bind(self.share.queue.clone())
    }

    async fn note(&self, connection: &mut PgConnection, picked: &Picked) -> Result<(), sqlx::Error> {
        let (tenant, key) = picked.turn.clone();
        let spent = f64::from(u32::try_from(picked.fit.len()).unwrap_or(u32::MAX));
        let note = self
            .database
            .statement(NOTE_TURN)
            .bind(self.share.queue.clone())
            .bind(spent)
            .bind(tenant)
            .bind(key);
        note.execute(connection).await.map(|_| ())
    }
}

/// When a token comes, or at once where tenants and keys, or what they have more, were left out; places become free when something ends.
fn next_look(gate: &Gate, picked: &Picked) -> Option<Duration> {
    let spent = i64::try_from(picked.fit.len()).unwrap_or(i64::MAX);
    if picked.more && spent < picked.room {
        return Some(if spent == 0 { VAIN_PAUSE } else { SHORTEST_PAUSE });
    }
    let (rate, allowance) = (gate.rate_per_s?, gate.allowance?);
    let left = allowance - f64::from(u32::try_from(picked.fit.len()).unwrap_or(u32::MAX));
    let wait = Duration::try_from_secs_f64((1.0 - left).max(0.0) / rate).unwrap_or(Duration::MAX);
    (left < 1.0).then_some(wait.max(SHORTEST_PAUSE))
}

fn gate(row: &PgRow) -> Result<Gate, sqlx::Error> {
    Ok(Gate {
        paused: row.try_get("paused")?,
        fair: row.try_get("fair")?,
        per_key: row.try_get("per_key")?,
        rate_per_s: row.try_get("rate_per_s")?,
        allowance: row.try_get("allowance")?,
    })
}

fn rule(row: &PgRow, limited: bool) -> Result<QueueRule, sqlx::Error> {
    let max_attempt: Option<f64> = row.try_get("max_attempt")?;
    Ok(QueueRule {
        name: row.try_get("name")?,
        limited,
        max_attempt: max_attempt.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
    })
}

fn names(rows: &[PgRow]) -> Result<Vec<String>, sqlx::Error> {
    rows.iter().map(|row| row.try_get(0)).collect()
}
