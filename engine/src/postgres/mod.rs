//! The Postgres adapter: the only place that names sqlx.

mod claim_batch;
mod control;
mod database;
mod enqueue;
mod fleet;
mod inspect;
mod leader;
mod listen;
mod manager;
mod migrations;
mod outbox;
mod pooler;
mod probe;
mod schedules;
mod source;
mod undelivered;
mod undelivered_desk;
mod verification;

pub use control::{ManualStart, ManualStarted, Operator};
pub use database::{Database, DatabaseError, DatabaseSettings};
pub use enqueue::{EnqueueError, Outbox};
pub use fleet::{FleetSettings, PostgresFleet};
pub use inspect::{Inspector, OLD_SNAPSHOT, Progress, RunFilter};
pub use leader::PostgresLeader;
pub use listen::listen;
pub use manager::PostgresTaskRunManager;
pub use migrations::{MigrationState, Migrator, SchemaError, roles_sql};
pub use outbox::PostgresOutbox;
pub use pooler::{Between, PoolerVerdict, test_pooler};
pub use probe::{ServerFacts, ServerVersion, probe};
pub use schedules::{ScheduleSpec, ScheduleView, Schedules, SetOutcome};
pub use source::{SqlSource, SqlValue};
pub use undelivered::PostgresUndelivered;
pub use undelivered_desk::UndeliveredDesk;
pub use verification::PostgresRunTables;
