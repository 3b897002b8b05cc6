//! The Postgres adapter: the only place that names sqlx.

mod database;
mod fleet;
mod leader;
mod migrations;
mod schedules;
mod source;

pub use database::{Database, DatabaseError, DatabaseSettings};
pub use fleet::{FleetSettings, PostgresFleet};
pub use leader::PostgresLeader;
pub use migrations::{MigrationState, Migrator, SchemaError, roles_sql};
pub use schedules::{ScheduleSpec, ScheduleView, Schedules, SetOutcome};
pub use source::{SqlSource, SqlValue};
