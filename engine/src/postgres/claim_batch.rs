//! Claiming a batch by number and ids: read what is there, decide, then write, under the run's lock.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::database::{Database, DatabaseError};
use super::manager::{LockedRun, Verdict, interval};
use crate::lifecycle::{Held, ItemIds, Known, ManagerError, RunId};

const READ_RIVAL_BATCHES: &str = include_str!("../../queries/read_rival_batches.sql");
const FIND_FREE_NUMBER: &str = include_str!("../../queries/find_free_number.sql");
const DISSOLVE_BATCHES: &str = include_str!("../../queries/dissolve_batches.sql");
const KEEP_RESTS: &str = include_str!("../../queries/keep_rests.sql");
const CLAIM_BATCH: &str = include_str!("../../queries/claim_batch.sql");
const CLAIM_PLANNED_BATCH: &str = include_str!("../../queries/claim_planned_batch.sql");

/// A claim that is asked for.
#[derive(Clone)]
pub(super) struct ClaimAttempt {
    pub(super) run: RunId,
    pub(super) batch: i32,
    pub(super) ids: ItemIds,
    /// Chosen before the request.
    pub(super) claim_id: Uuid,
    /// Earlier claims of this handle on the batch.
    pub(super) known: Known,
    pub(super) holder: Uuid,
    pub(super) lease: Duration,
}

/// A batch as it was found.
struct Found {
    number: i32,
    status: String,
    planned: bool,
    ids: ItemIds,
    claim_id: Option<Uuid>,
    token: i64,
    attempts: i16,
    waits: bool,
}

/// What remains of a recoverable batch after some of its items were taken.
struct Rest {
    /// `None`: its number is taken by the claim, it needs a new one.
    number: Option<i32>,
    ids: ItemIds,
    attempts: i16,
}

/// What to write.
enum Decision {
    AlreadyHeld(Held),
    ClaimPlanned,
    Make {
        dissolve: Vec<i32>,
        rests: Vec<Rest>,
        attempts: i16,
    },
}

pub(super) async fn claim(database: &Database, attempt: ClaimAttempt) -> Result<Verdict<Held>, DatabaseError> {
    let inner = database.clone();
    database
        .transaction(move |connection| Box::pin(async move { claim_in(&inner, connection, &attempt).await }))
        .await
}

async fn claim_in(
    database: &Database,
    connection: &mut PgConnection,
    attempt: &ClaimAttempt,
) -> Result<Verdict<Held>, sqlx::Error> {
    let locked = match LockedRun::lock(database, connection, attempt.run).await? {
        Ok(locked) => locked,
        Err(error) => return Ok(Err(error)),
    };
    if let Err(error) = locked.unfinished() {
        return Ok(Err(error));
    }
    if let Err(error) = locked.not_stopping(database, connection).await? {
        return Ok(Err(error));
    }
    let rows = database
        .statement(READ_RIVAL_BATCHES)
        .bind(attempt.run)
        .bind(attempt.batch)
        .bind(attempt.ids.first())
        .bind(attempt.ids.last())
        .fetch_all(&mut *connection)
        .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        match Found::from_row(row)? {
            Ok(batch) => found.push(batch),
            Err(error) => return Ok(Err(error)),
        }
    }
    let token = match decide(attempt, &locked, found) {
        Err(refusal) => return Ok(Err(refusal)),
        Ok(Decision::AlreadyHeld(held)) => return Ok(Ok(held)),
        Ok(Decision::ClaimPlanned) => match claim_planned(database, connection, attempt).await? {
            Some(token) => token,
            None => return Ok(Err(attempt.refused("a replica claimed it this moment"))),
        },
        Ok(Decision::Make {
            dissolve,
            rests,
            attempts,
        }) => {
            regroup(database, connection, attempt, dissolve, rests).await?;
            make(database, connection, attempt, attempts).await?
        }
    };
    Ok(Ok(Held {
        claim_id: attempt.claim_id,
        token,
    }))
}

/// Decides a claim by what the store holds. Nothing here changes anything.
fn decide(attempt: &ClaimAttempt, run: &LockedRun, found: Vec<Found>) -> Verdict<Decision> {
    if let Some(own) = found.iter().find(|batch| batch.number == attempt.batch) {
        if let Some(held) = attempt.already_holds(own)? {
            return Ok(Decision::AlreadyHeld(held));
        }
        if own.planned && own.ids != attempt.ids {
            return Err(ManagerError::WrongIds {
                run: attempt.run,
                batch: attempt.batch,
            });
        }
        if !matches!(own.status.as_str(), "free" | "recoverable") {
            return Err(attempt.refused(format!("it is {}", own.status)));
        }
    }
    if matches!(run.status.as_str(), "paused" | "quarantined") {
        return Err(attempt.refused(format!("the run is {}", run.status)));
    }
    match found.iter().find(|batch| batch.number == attempt.batch) {
        Some(own) if own.planned && own.waits => return Err(attempt.refused("it was handed back and waits")),
        Some(own) if own.planned => return Ok(Decision::ClaimPlanned),
        None if run.is_engine_driven() => return Err(attempt.refused("the engine plans this run, without this batch")),
        _ => {}
    }
    regrouping(attempt, found)
}

/// Takes the claim's items out of the recoverable batches that hold them; any other holder stands in the way.
fn regrouping(attempt: &ClaimAttempt, found: Vec<Found>) -> Verdict<Decision> {
    let (mut dissolve, mut rests, mut attempts) = (Vec::new(), Vec::new(), 0);
    for batch in found {
        let is_own = batch.number == attempt.batch;
        let shared = batch
            .ids
            .as_slice()
            .iter()
            .find(|id| attempt.ids.index_of(**id).is_some());
        if shared.is_none() && !is_own {
            continue;
        }
        if let Some(id) = shared
            && batch.status != "recoverable"
        {
            return Err(attempt.refused(format!(
                "item {id} is in batch {}, which is {}",
                batch.number, batch.status
            )));
        }
        if shared.is_some() {
            // Deaths follow the items: a batch that kills its holders stays known when it is regrouped.
            attempts = attempts.max(batch.attempts);
        }
        let left = batch
            .ids
            .as_slice()
            .iter()
            .copied()
            .filter(|id| attempt.ids.index_of(*id).is_none())
            .collect();
        if let Ok(ids) = ItemIds::new(left) {
            rests.push(Rest {
                number: (!is_own).then_some(batch.number),
                ids,
                attempts: batch.attempts,
            });
        }
        dissolve.push(batch.number);
    }
    Ok(Decision::Make {
        dissolve,
        rests,
        attempts,
    })
}

async fn regroup(
    database: &Database,
    connection: &mut PgConnection,
    attempt: &ClaimAttempt,
    dissolve: Vec<i32>,
    rests: Vec<Rest>,
) -> Result<(), sqlx::Error> {
    if dissolve.is_empty() {
        return Ok(());
    }
    let (mut numbers, mut firsts, mut lasts, mut counts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut attempts, mut packed) = (Vec::new(), Vec::new());
    for rest in rests {
        numbers.push(match rest.number {
            Some(number) => number,
            None => find_free_number(database, connection, attempt.run).await?,
        });
        firsts.push(rest.ids.first());
        lasts.push(rest.ids.last());
        counts.push(rest.ids.len() as i32);
        attempts.push(rest.attempts);
        packed.push(rest.ids.packed());
    }
    let statement = database.statement(DISSOLVE_BATCHES).bind(attempt.run).bind(dissolve);
    statement.bind(attempt.batch).execute(&mut *connection).await?;
    let statement = database
        .statement(KEEP_RESTS)
        .bind(attempt.run)
        .bind(numbers)
        .bind(firsts)
        .bind(lasts);
    let statement = statement.bind(counts).bind(attempts).bind(packed).bind(attempt.holder);
    statement.bind(attempt.batch).execute(connection).await?;
    Ok(())
}

async fn find_free_number(database: &Database, connection: &mut PgConnection, run: RunId) -> Result<i32, sqlx::Error> {
    database
        .statement(FIND_FREE_NUMBER)
        .bind(run)
        .fetch_one(connection)
        .await?
        .try_get(0)
}

async fn make(
    database: &Database,
    connection: &mut PgConnection,
    attempt: &ClaimAttempt,
    attempts: i16,
) -> Result<i64, sqlx::Error> {
    let row = database
        .statement(CLAIM_BATCH)
        .bind(attempt.run)
        .bind(attempt.batch)
        .bind(attempt.ids.first())
        .bind(attempt.ids.last())
        .bind(attempt.ids.len() as i32)
        .bind(attempts)
        .bind(attempt.ids.packed())
        .bind(attempt.claim_id)
        .bind(attempt.holder)
        .bind(interval(attempt.lease))
        .fetch_one(connection)
        .await?;
    row.try_get(0)
}

async fn claim_planned(
    database: &Database,
    connection: &mut PgConnection,
    attempt: &ClaimAttempt,
) -> Result<Option<i64>, sqlx::Error> {
    let statement = database
        .statement(CLAIM_PLANNED_BATCH)
        .bind(attempt.run)
        .bind(attempt.batch);
    let statement = statement
        .bind(attempt.claim_id)
        .bind(attempt.holder)
        .bind(interval(attempt.lease));
    statement
        .fetch_optional(connection)
        .await?
        .map(|row| row.try_get(0))
        .transpose()
}

impl ClaimAttempt {
    /// The claim, when the batch is held by this handle with exactly these ids.
    fn already_holds(&self, own: &Found) -> Verdict<Option<Held>> {
        let Some(claim_id) = own
            .claim_id
            .filter(|id| own.status == "claimed" && self.known.owns(*id))
        else {
            return Ok(None);
        };
        if own.ids != self.ids && !own.planned {
            return Err(self.refused("this handle holds it with other ids"));
        }
        Ok((own.ids == self.ids).then_some(Held {
            claim_id,
            token: own.token,
        }))
    }

    fn refused(&self, why: impl Into<String>) -> ManagerError {
        ManagerError::NotClaimable {
            run: self.run,
            batch: self.batch,
            why: why.into(),
        }
    }
}

impl Found {
    fn from_row(row: &PgRow) -> Result<Verdict<Self>, sqlx::Error> {
        let ids = match stored_ids(row)? {
            Ok(ids) => ids,
            Err(error) => return Ok(Err(error)),
        };
        Ok(Ok(Self {
            number: row.try_get("seq")?,
            status: row.try_get("status")?,
            planned: row.try_get("planned")?,
            ids,
            claim_id: row.try_get("claim_id")?,
            token: row.try_get("claim_token")?,
            attempts: row.try_get("attempts")?,
            waits: row.try_get("waits")?,
        }))
    }
}

/// The items of a batch's row.
pub(super) fn stored_ids(row: &PgRow) -> Result<Verdict<ItemIds>, sqlx::Error> {
    let (first, last): (i64, i64) = (row.try_get("first_id")?, row.try_get("last_id")?);
    let packed: Option<&[u8]> = row.try_get("ids")?;
    let ids = ItemIds::from_stored(first, last, row.try_get("n_items")?, packed);
    Ok(ids.map_err(|error| ManagerError::Store(error.into())))
}
