//! The doctor's look at what stands between us and Postgres.

use super::doctor::Check;
use super::doctor_postgres::PATIENCE;
use crate::config::Config;
use crate::postgres::{Between, DatabaseSettings, test_pooler};

pub(super) async fn pooler(settings: &DatabaseSettings) -> Check {
    let id = "postgres.pooler";
    match test_pooler(settings, PATIENCE).await {
        Err(error) => Check::fail(
            id,
            error.to_string(),
            "give a pooler at least two connections per pool, or connect directly",
        ),
        Ok(verdict) if !verdict.is_safe() => Check::fail(id, verdict.evidence(), verdict.fix()),
        Ok(verdict) if verdict.pooler_mode && verdict.between == Between::Direct => Check::warn(
            id,
            "pooler mode is on, but connections go straight to the server",
            "set database.pooler_mode = false: named statements are faster",
        ),
        Ok(verdict) => Check::ok(id, verdict.evidence()),
    }
}

/// Migrations and listening need the server itself.
pub(super) async fn direct(config: &Config) -> Check {
    let id = "postgres.direct";
    let fix = "let DATABASE_URL_DIRECT name the server past any pooler";
    let Ok(settings) = config.direct_settings() else {
        return Check::fail(id, "DATABASE_URL_DIRECT cannot be used", fix);
    };
    match test_pooler(&settings, PATIENCE).await {
        Ok(verdict) if verdict.between == Between::Direct => Check::ok(id, verdict.evidence()),
        Ok(verdict) => Check::fail(id, verdict.evidence(), fix),
        Err(error) => Check::fail(id, error.to_string(), fix),
    }
}
