//! The Postgres adapter: the only place that names sqlx.

mod database;
mod migrations;

pub use database::{Database, DatabaseError, DatabaseSettings};
pub use migrations::{MigrationState, Migrator, SchemaError, roles_sql};
