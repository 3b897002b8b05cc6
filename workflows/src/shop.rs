//! The demo domain of the sagas: a shop with a stock, and a payment service that is somebody else's.

use anyhow::Context as _;
use sqlx::{Executor, PgPool};
use tokio::sync::OnceCell;
use uuid::Uuid;

/// Makes the tables where they are missing.
///
/// # Errors
/// The database refused or did not answer.
pub async fn create(pool: &PgPool) -> Result<(), sqlx::Error> {
    pool.execute(sqlx::raw_sql(include_str!("../sql/shop/shop.sql")))
        .await
        .map(|_| ())
}

/// The payment service, which the engine's transactions cannot reach: what is asked of it may have happened though nobody
/// hears so. It knows a payment by the key that it was asked under.
#[derive(Debug, Clone)]
pub struct Payments {
    url: Option<String>,
    pool: OnceCell<PgPool>,
}

impl Payments {
    /// The service on a database of its own.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self {
            url: None,
            pool: OnceCell::from(pool),
        }
    }

    /// The service that variable `SHOP_PAYMENTS_URL` names; none when it does not, and then nothing can be paid.
    #[must_use]
    pub fn from_env() -> Self {
        Self {
            url: std::env::var("SHOP_PAYMENTS_URL").ok(),
            pool: OnceCell::new(),
        }
    }

    /// Charges once, however often it is asked under a key.
    ///
    /// # Errors
    /// There is no service, it did not answer, or what was asked under the key was refunded.
    pub async fn charge(&self, key: Uuid, order: i64, cents: i64) -> anyhow::Result<()> {
        let charged = sqlx::query(include_str!("../sql/shop/charge.sql"))
            .bind(key)
            .bind(order)
            .bind(cents)
            .execute(self.pool().await?)
            .await?;
        anyhow::ensure!(charged.rows_affected() == 1, "payment {key} was refunded");
        Ok(())
    }

    /// Refunds what was charged under a key, and refuses what might still be on its way.
    ///
    /// # Errors
    /// There is no service, or it did not answer.
    pub async fn refund(&self, key: Uuid, order: i64, cents: i64) -> anyhow::Result<()> {
        let refund = sqlx::query(include_str!("../sql/shop/refund.sql"));
        refund
            .bind(key)
            .bind(order)
            .bind(cents)
            .execute(self.pool().await?)
            .await?;
        Ok(())
    }

    async fn pool(&self) -> anyhow::Result<&PgPool> {
        let connect = || async {
            let url = self.url.as_deref();
            let url = url.context("there is no payment service here: set SHOP_PAYMENTS_URL")?;
            Ok(PgPool::connect(url).await?)
        };
        self.pool.get_or_try_init(connect).await
    }
}
