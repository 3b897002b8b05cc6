//! The six verbs on the tables. Each verb is one transaction, repeated once under the same ids when its answer is lost.

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::types::PgInterval;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::claim_batch::{self, ClaimAttempt, stored_ids};
use super::database::{Database, DatabaseError};
use crate::lifecycle::{
    Claims, Driver, Held, ManagerError, RunId, RunRequest, TaskRunManager, check_ids, storable_reason,
};

const TRY_START_NEW_RUN: &str = include_str!("../../queries/try_start_new_run.sql");
const LOCK_RUN: &str = include_str!("../../queries/lock_run.sql");
const SETTLE_STOPPED_RUN: &str = include_str!("../../queries/settle_stopped_run.sql");
const COMPLETE_RUN: &str = include_str!("../../queries/complete_run.sql");
const FAIL_RUN: &str = include_str!("../../queries/fail_run.sql");
const RELEASE_BATCH: &str = include_str!("../../queries/release_batch.sql");
const READ_OWN_CLAIM: &str = include_str!("../../queries/read_own_claim.sql");
const RECOVER_STALE_IDS: &str = include_str!("../../queries/recover_stale_ids.sql");
const READ_RECOVERABLE_IDS: &str = include_str!("../../queries/read_recoverable_ids.sql");

/// What a verb found out, inside the answer of the call that carried it.
pub(super) type Verdict<T> = Result<T, ManagerError>;

/// A handle on runs kept in Postgres.
#[derive(Debug)]
pub struct PostgresTaskRunManager {
    database: Database,
    lease: Duration,
    /// Says who holds a batch; made anew for every handle, never a host name.
    holder: Uuid,
    claims: Claims,
}

impl PostgresTaskRunManager {
    /// A handle whose claims last this long unless released.
    #[must_use]
    pub fn new(database: Database, lease: Duration) -> Self {
        Self {
            database,
            lease,
            holder: Uuid::new_v4(),
            claims: Claims::default(),
        }
    }

    async fn start(&self, request: RunRequest) -> Result<(String, Option<RunId>), DatabaseError> {
        let database = self.database.clone();
        self.database
            .run(move |connection| {
                Box::pin(async move {
                    let (schedule, slot) = request.slot.unzip();
                    let driven_by = match request.driven_by {
                        Driver::Caller => "caller",
                        Driver::Engine => "engine",
                    };
                    let row = database
                        .statement(TRY_START_NEW_RUN)
                        .bind(request.id)
                        .bind(request.workflow)
                        .bind(request.params)
                        .bind(driven_by)
                        .bind(request.singleton_key)
                        .bind(request.idempotency_key)
                        .bind(schedule)
                        .bind(slot)
                        .bind(request.start_at)
                        .bind(request.pace_per_s.map(|pace| i32::try_from(pace).unwrap_or(i32::MAX)))
                        .bind(request.deadline.map(interval))
                        .bind(request.origin_id)
                        .bind(request.traceparent)
                        .bind(request.leader_term)
                        .bind(request.actor)
                        .fetch_one(connection)
                        .await?;
                    Ok((row.try_get(0)?, row.try_get(1)?))
                })
            })
            .await
    }

    async fn complete(&self, run: RunId) -> Result<Verdict<()>, DatabaseError> {
        let (database, holder) = (self.database.clone(), self.holder);
        self.database
            .transaction(move |connection| {
                Box::pin(async move {
                    let locked = match LockedRun::lock(&database, connection, run).await? {
                        Ok(locked) if locked.status == "completed" => return Ok(locked.by_caller().map(|_| ())),
                        Ok(locked) => locked,
                        Err(error) => return Ok(Err(error)),
                    };
                    if let Err(error) = locked.by_caller().and_then(LockedRun::unfinished) {
                        return Ok(Err(error));
                    }
                    if let Err(error) = locked.not_stopping(&database, connection).await? {
                        return Ok(Err(error));
                    }
                    let statement = database.statement(COMPLETE_RUN).bind(run).bind(holder);
                    let batches: i64 = statement.fetch_one(connection).await?.try_get(0)?;
                    Ok(match batches {
                        0 => Ok(()),
                        batches => Err(ManagerError::Unfinished { run, batches }),
                    })
                })
            })
            .await
    }

    async fn fail(&self, run: RunId, reason: String) -> Result<Verdict<()>, DatabaseError> {
        let (database, holder) = (self.database.clone(), self.holder);
        self.database
            .transaction(move |connection| {
                Box::pin(async move {
                    let locked = match LockedRun::lock(&database, connection, run).await? {
                        Ok(locked) => locked,
                        Err(error) => return Ok(Err(error)),
                    };
                    let repeated = locked.status == "failed" && locked.reason.as_deref() == Some(&reason);
                    if repeated {
                        return Ok(locked.by_caller().map(|_| ()));
                    }
                    if let Err(error) = locked.by_caller().and_then(LockedRun::unfinished) {
                        return Ok(Err(error));
                    }
                    if let Err(error) = locked.not_stopping(&database, connection).await? {
                        return Ok(Err(error));
                    }
                    let statement = database.statement(FAIL_RUN).bind(run).bind(reason).bind(holder);
                    statement.execute(connection).await?;
                    Ok(Ok(()))
                })
            })
            .await
    }

    async fn release(&self, run: RunId, batch: i32, held: Held) -> Result<bool, DatabaseError> {
        let database = self.database.clone();
        self.database
            .run(move |connection| {
                Box::pin(async move {
                    let statement = database.statement(RELEASE_BATCH).bind(run).bind(batch);
                    let row = statement
                        .bind(held.token)
                        .bind(held.claim_id)
                        .fetch_one(connection)
                        .await?;
                    row.try_get(0)
                })
            })
            .await
    }

    /// What the batch is under a claim of ours: the claim with its token, and whether it is done.
    async fn own_claim(&self, run: RunId, batch: i32, claim_id: Uuid) -> Result<Option<(Held, bool)>, DatabaseError> {
        let database = self.database.clone();
        self.database
            .run(move |connection| {
                Box::pin(async move {
                    let statement = database.statement(READ_OWN_CLAIM).bind(run).bind(batch).bind(claim_id);
                    let Some(row) = statement.fetch_optional(connection).await? else {
                        return Ok(None);
                    };
                    let held = Held {
                        claim_id,
                        token: row.try_get("claim_token")?,
                    };
                    Ok(Some((held, row.try_get::<&str, _>("status")? == "done")))
                })
            })
            .await
    }

    async fn recover(&self, run: RunId) -> Result<Verdict<Vec<i64>>, DatabaseError> {
        let database = self.database.clone();
        self.database
            .transaction(move |connection| {
                Box::pin(async move {
                    let locked = match LockedRun::lock(&database, connection, run).await? {
                        Ok(locked) => locked,
                        Err(error) => return Ok(Err(error)),
                    };
                    if let Err(error) = locked.unfinished() {
                        return Ok(Err(error));
                    }
                    database
                        .statement(RECOVER_STALE_IDS)
                        .bind(run)
                        .execute(&mut *connection)
                        .await?;
                    // With its last lease gone, a run that was asked to stop is over now.
                    match locked.not_stopping(&database, connection).await? {
                        Err(ManagerError::NotActive { state, .. }) if state == STOPPING => {}
                        Err(error) => return Ok(Err(error)),
                        Ok(()) => {}
                    }
                    let rows = database
                        .statement(READ_RECOVERABLE_IDS)
                        .bind(run)
                        .fetch_all(connection)
                        .await?;
                    let mut ids = Vec::new();
                    for row in &rows {
                        match stored_ids(row)? {
                            Ok(stored) => ids.extend_from_slice(stored.as_slice()),
                            Err(error) => return Ok(Err(error)),
                        }
                    }
                    ids.sort_unstable();
                    Ok(Ok(ids))
                })
            })
            .await
    }
}

#[async_trait]
impl TaskRunManager for PostgresTaskRunManager {
    async fn try_start_new_run(&self, request: RunRequest) -> Result<Option<RunId>, ManagerError> {
        request.check()?;
        let (outcome, run) = answered(|| self.start(request.clone())).await?;
        match (outcome.as_str(), run) {
            ("new" | "found", Some(run)) => Ok(Some(run)),
            ("held", _) => Ok(None),
            ("busy", _) => Err(ManagerError::Busy),
            _ => Err(ManagerError::Store(anyhow::anyhow!(
                "the start of a run was answered with {outcome}"
            ))),
        }
    }

    async fn complete_run(&self, run: RunId) -> Result<(), ManagerError> {
        answered(|| self.complete(run)).await?
    }

    async fn fail_run(&self, run: RunId, reason: &str) -> Result<(), ManagerError> {
        let reason = storable_reason(reason);
        answered(|| self.fail(run, reason.clone())).await?
    }

    async fn claim_batch(&self, run: RunId, batch: i32, ids: &[i64]) -> Result<(), ManagerError> {
        let ids = check_ids(ids)?;
        let (claim_id, known) = self.claims.ask(run, batch);
        let attempt = ClaimAttempt {
            run,
            batch,
            ids,
            claim_id,
            known,
            holder: self.holder,
            lease: self.lease,
        };
        match answered(|| claim_batch::claim(&self.database, attempt.clone())).await {
            Ok(Ok(held)) => self.claims.granted(run, batch, held),
            Ok(Err(refusal)) | Err(refusal @ (ManagerError::Invalid(_) | ManagerError::Busy)) => {
                self.claims.refused(run, batch, claim_id);
                return Err(refusal);
            }
            Err(unknown) => {
                self.claims.unanswered(run, batch, claim_id);
                return Err(unknown);
            }
        }
        Ok(())
    }

    async fn release_batch(&self, run: RunId, batch: i32) -> Result<(), ManagerError> {
        let known = self.claims.known(run, batch);
        let found_late = match known.asked {
            Some(asked) => answered(|| self.own_claim(run, batch, asked))
                .await?
                .map(|(held, _)| held),
            None => None,
        };
        if let Some(held) = found_late {
            self.claims.granted(run, batch, held);
        }
        let not_owner = || ManagerError::NotOwner {
            what: format!("batch {batch} of run {run}"),
        };
        let held = found_late.or(known.held).ok_or_else(not_owner)?;
        if answered(|| self.release(run, batch, held)).await? {
            self.claims.released(run, batch);
            return Ok(());
        }
        match answered(|| self.own_claim(run, batch, held.claim_id)).await? {
            Some((found, true)) if found == held => Ok(()),
            _ => {
                self.claims.lost(run, batch, held);
                Err(not_owner())
            }
        }
    }

    async fn recover_stale_ids(&self, run: RunId) -> Result<Vec<i64>, ManagerError> {
        answered(|| self.recover(run)).await?
    }
}

const STOPPING: &str = "stopping";

/// A run whose row is locked until the transaction ends.
pub(super) struct LockedRun {
    run: RunId,
    pub(super) status: String,
    driven_by: String,
    stop_status: Option<String>,
    reason: Option<String>,
}

impl LockedRun {
    pub(super) async fn lock(
        database: &Database,
        connection: &mut PgConnection,
        run: RunId,
    ) -> Result<Verdict<Self>, sqlx::Error> {
        let Some(row) = database
            .statement(LOCK_RUN)
            .bind(run)
            .fetch_optional(connection)
            .await?
        else {
            return Ok(Err(ManagerError::NotActive {
                run,
                state: "unknown".to_owned(),
            }));
        };
        Ok(Ok(Self {
            run,
            status: row.try_get("status")?,
            driven_by: row.try_get("driven_by")?,
            stop_status: row.try_get("stop_status")?,
            reason: row.try_get("reason")?,
        }))
    }

    pub(super) fn is_engine_driven(&self) -> bool {
        self.driven_by == "engine"
    }

    pub(super) fn by_caller(&self) -> Verdict<&Self> {
        if self.is_engine_driven() {
            let what = format!("run {}, the engine drives it", self.run);
            return Err(ManagerError::NotOwner { what });
        }
        Ok(self)
    }

    pub(super) fn unfinished(&self) -> Verdict<()> {
        if matches!(self.status.as_str(), "completed" | "failed" | "cancelled") {
            return Err(ManagerError::NotActive {
                run: self.run,
                state: self.status.clone(),
            });
        }
        Ok(())
    }

    /// A run that was asked to stop takes no more orders; it ends here if nothing of it is held.
    pub(super) async fn not_stopping(
        &self,
        database: &Database,
        connection: &mut PgConnection,
    ) -> Result<Verdict<()>, sqlx::Error> {
        if self.stop_status.is_none() {
            return Ok(Ok(()));
        }
        let row = database
            .statement(SETTLE_STOPPED_RUN)
            .bind(self.run)
            .fetch_one(connection)
            .await?;
        Ok(Err(ManagerError::NotActive {
            run: self.run,
            state: row.try_get(0)?,
        }))
    }
}

/// Asks, and asks once more when the answer is lost. Whatever the first request still does, the second finds it: runs
/// and claims are known by ids chosen before both.
async fn answered<T, Ask, Answer>(ask: Ask) -> Result<T, ManagerError>
where
    Ask: Fn() -> Answer,
    Answer: Future<Output = Result<T, DatabaseError>>,
{
    let answer = match ask().await {
        Err(error) if error.is_unanswered() => ask().await,
        answer => answer,
    };
    answer.map_err(|error| match error.code() {
        // The server checks a value's range: it was given a wrong one.
        Some(code) if code.starts_with("22") => ManagerError::Invalid(error.to_string()),
        // Undone by the server because another transaction was in the way.
        Some("40001" | "40P01" | "55P03") => ManagerError::Busy,
        _ => ManagerError::Store(error.into()),
    })
}

pub(super) fn interval(duration: Duration) -> PgInterval {
    // Beyond what a bigint of microseconds holds is beyond any lease or deadline; the server refuses such a date.
    PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX),
    }
}
