//! The demo domain: users and their tasks, seeded in pages.

use sqlx::{Executor, PgPool};

/// Users seeded by one statement.
const PAGE: i64 = 20_000;

/// Makes the tables where they are missing.
///
/// # Errors
/// The database refused or did not answer.
pub async fn create(pool: &PgPool) -> Result<(), sqlx::Error> {
    pool.execute(sqlx::raw_sql(include_str!("../sql/tracker.sql")))
        .await
        .map(|_| ())
}

/// Brings the number of users up to `users`, calling `progress` with how many there are.
///
/// # Errors
/// The database refused or did not answer; what was seeded stays.
pub async fn seed(pool: &PgPool, users: i64, mut progress: impl FnMut(i64)) -> Result<(), sqlx::Error> {
    let mut last: i64 = sqlx::query_scalar("select coalesce(max(id), 0) from tracker.users")
        .fetch_one(pool)
        .await?;
    while last < users {
        let (from, to) = (last + 1, (last + PAGE).min(users));
        let mut transaction = pool.begin().await?;
        for sql in [
            include_str!("../sql/seed_users.sql"),
            include_str!("../sql/seed_tasks.sql"),
        ] {
            sqlx::query(sql).bind(from).bind(to).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        last = to;
        progress(last);
    }
    sqlx::query(include_str!("../sql/seed_end.sql")).execute(pool).await?;
    // Freshly filled tables have no statistics yet; reading them well should not wait for autovacuum.
    pool.execute("analyze tracker.users, tracker.tasks").await.map(|_| ())
}
