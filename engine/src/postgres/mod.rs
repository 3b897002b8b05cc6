//! The Postgres adapter: the only place that names sqlx.

mod claim_batch;
mod database;
mod manager;
mod migrations;

pub use database::{Database, DatabaseError, DatabaseSettings};
pub use manager::PostgresTaskRunManager;
pub use migrations::{MigrationState, Migrator, SchemaError, roles_sql};
