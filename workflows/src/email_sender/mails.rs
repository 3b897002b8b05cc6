//! The table of e-mails, as the sender and its operators write it.

use std::time::Duration;

use sqlx::PgPool;
use uuid::Uuid;

/// E-mails queued again in one statement.
const REQUEUED: i64 = 1_000;

/// The table.
#[derive(Clone)]
pub struct Mails {
    pool: PgPool,
    /// How long an e-mail is tried that the server puts off.
    give_up: Duration,
}

/// A claimed e-mail.
#[derive(sqlx::FromRow)]
pub(super) struct Claimed {
    pub(super) id: i64,
    pub(super) message_id: Uuid,
    pub(super) recipient: String,
    pub(super) subject: String,
    pub(super) body: String,
    pub(super) attempts: i32,
    pub(super) traceparent: Option<String>,
}

/// What is written down of an e-mail.
#[derive(Clone)]
pub(super) struct Fate {
    pub(super) state: &'static str,
    pub(super) error: Option<String>,
    pub(super) pause: Duration,
}

impl Mails {
    /// The table in the database of this pool.
    #[must_use]
    pub fn new(pool: PgPool, give_up: Duration) -> Self {
        Self { pool, give_up }
    }

    /// Takes back what others held for too long.
    pub(super) async fn recover(&self) -> Result<u64, sqlx::Error> {
        let pool = self.pool.clone();
        self.within(async move {
            let recover = sqlx::query(include_str!("../../sql/mail/recover_mails.sql"));
            Ok(recover.execute(&pool).await?.rows_affected())
        })
        .await
    }

    /// Claims a page of due ones.
    pub(super) async fn claim(&self, claim: Uuid, lease: Duration, page: i64) -> Result<Vec<Claimed>, sqlx::Error> {
        let pool = self.pool.clone();
        self.within(async move {
            sqlx::query_as(include_str!("../../sql/mail/claim_mails.sql"))
                .bind(claim)
                .bind(lease.as_secs_f64())
                .bind(page)
                .fetch_all(&pool)
                .await
        })
        .await
    }

    /// Writes down what became of one, and answers its state then; none when the claim holds it no more.
    pub(super) async fn settle(&self, id: i64, claim: Uuid, fate: Fate) -> Result<Option<String>, sqlx::Error> {
        let (pool, give_up) = (self.pool.clone(), self.give_up);
        self.within(async move {
            sqlx::query_scalar(include_str!("../../sql/mail/settle_mail.sql"))
                .bind(id)
                .bind(claim)
                .bind(fate.state)
                .bind(fate.error)
                .bind(fate.pause.as_secs_f64())
                .bind(give_up.as_secs_f64())
                .fetch_optional(&pool)
                .await
        })
        .await
    }

    /// Gives back what was not offered, and says why when it is worth saying.
    pub(super) async fn release(&self, ids: Vec<i64>, claim: Uuid, why: Option<String>) -> Result<u64, sqlx::Error> {
        let pool = self.pool.clone();
        self.within(async move {
            let release = sqlx::query(include_str!("../../sql/mail/release_mails.sql"));
            Ok(release
                .bind(claim)
                .bind(ids)
                .bind(why)
                .execute(&pool)
                .await?
                .rows_affected())
        })
        .await
    }

    /// Deletes a page of those that are over and old.
    pub(super) async fn prune(&self, keep: Duration, page: i64) -> Result<u64, sqlx::Error> {
        let pool = self.pool.clone();
        self.within(async move {
            let prune = sqlx::query(include_str!("../../sql/mail/prune_mails.sql"));
            Ok(prune
                .bind(keep.as_secs_f64())
                .bind(page)
                .execute(&pool)
                .await?
                .rows_affected())
        })
        .await
    }

    /// How many have failed, by what their last attempt met; `error`: only these.
    ///
    /// # Errors
    /// The database refused or did not answer.
    pub async fn failed(&self, error: Option<&str>) -> Result<Vec<(String, i64)>, sqlx::Error> {
        sqlx::query_as(include_str!("../../sql/mail/count_failed_mails.sql"))
            .bind(error)
            .fetch_all(&self.pool)
            .await
    }

    /// Queues failed ones again, with their attempts anew and the reason in their row; answers how many.
    ///
    /// # Errors
    /// The database refused or did not answer; what was queued before stays queued.
    pub async fn requeue(&self, error: Option<&str>, reason: &str) -> Result<i64, sqlx::Error> {
        let (mut behind, mut all) = (0, 0);
        loop {
            let (last, queued): (Option<i64>, i64) = sqlx::query_as(include_str!("../../sql/mail/requeue_mails.sql"))
                .bind(error)
                .bind(reason)
                .bind(behind)
                .bind(REQUEUED)
                .fetch_one(&self.pool)
                .await?;
            all += queued;
            match last {
                Some(last) => behind = last,
                None => return Ok(all),
            }
        }
    }

    /// No longer than a statement may wait for a connection. It is a task of its own, which goes on when nobody waits for
    /// it any more: one that is cut off midway would spoil its connection.
    async fn within<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, sqlx::Error>> + Send + 'static,
    ) -> Result<T, sqlx::Error> {
        let deadline = self.pool.options().get_acquire_timeout();
        match tokio::time::timeout(deadline, tokio::spawn(call)).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(sqlx::Error::WorkerCrashed),
            Err(_) => Err(sqlx::Error::PoolTimedOut),
        }
    }
}
