//! The demo's own database: made by it, marked by it, and never anybody else's.

use std::str::FromStr;

use lockgate::cli::{Exit, Failure};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Executor};

const NAME: &str = "lockgate_demo";
const MARK: &str = "made by lockgate demo";

/// Where the demo works.
pub(super) struct Place {
    /// The URL of its database.
    pub(super) url: String,
    /// The same for people, without a password.
    pub(super) shown: String,
}

/// Makes the database on the server of this URL, or finds the one an earlier demo made.
pub(super) async fn create_database(url: &str) -> Result<Place, Failure> {
    let unusable = |error: sqlx::Error| Failure::new(Exit::Unreachable, format!("Postgres cannot be used: {error}"));
    let options =
        PgConnectOptions::from_str(url).map_err(|_| Failure::new(Exit::Usage, "DATABASE_URL is not a Postgres URL"))?;
    let mut connection = options.clone().connect().await.map_err(unusable)?;
    let comment: Option<Option<String>> = sqlx::query_scalar(
        "select shobj_description(oid, 'pg_database') from pg_database where datname = 'lockgate_demo'",
    )
    .fetch_optional(&mut connection)
    .await
    .map_err(unusable)?;
    match comment {
        Some(Some(mark)) if mark == MARK => {}
        Some(_) => {
            return Err(Failure::new(
                Exit::Conflict,
                format!("database {NAME} is there and was not made by a demo"),
            )
            .hint(format!(
                "rename or drop database {NAME} on that server, or unset DATABASE_URL"
            )));
        }
        None => {
            for sql in [
                "create database lockgate_demo",
                "comment on database lockgate_demo is 'made by lockgate demo'",
            ] {
                connection.execute(sql).await.map_err(unusable)?;
            }
        }
    }
    let options = options.database(NAME);
    let shown = format!("{NAME} on {}:{}", options.get_host(), options.get_port());
    Ok(Place {
        url: options.to_url_lossy().to_string(),
        shown,
    })
}
