//! The Postgres adapter: the only place that names sqlx.

mod database;
mod fleet;
mod listen;
mod migrations;
mod source;

pub use database::{Database, DatabaseError, DatabaseSettings};
pub use fleet::{FleetSettings, PostgresFleet};
pub use listen::listen;
pub use migrations::{MigrationState, Migrator, SchemaError, roles_sql};
pub use source::{SqlSource, SqlValue};
