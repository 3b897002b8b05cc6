//! Every query of the engine is one that Postgres accepts on the migrated schema.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use lockgate_tests::TestDatabase;
use sqlx::{AssertSqlSafe, Executor, SqlSafeStr};

#[tokio::test]
async fn every_query_prepares() {
    let database = TestDatabase::new().await;
    let mut connection = database.pool().acquire().await.unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/queries");
    let (mut prepared, mut refused) = (0, Vec::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        match connection.prepare(AssertSqlSafe(text).into_sql_str()).await {
            Ok(_) => prepared += 1,
            Err(error) => refused.push(format!("{}: {error}", path.display())),
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    assert!(prepared > 40, "only {prepared} queries were found");
}

#[tokio::test]
async fn a_query_that_does_not_fit_the_schema_does_not_prepare() {
    let database = TestDatabase::new().await;
    let mut connection = database.pool().acquire().await.unwrap();
    let error = connection
        .prepare("select no_such_column from lockgate.task_runs".into_sql_str())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("no_such_column"), "{error}");
}
