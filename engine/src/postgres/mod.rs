//! The Postgres adapter: the only place that names sqlx.

mod api_tokens;
mod claim_batch;
mod connections;
mod control;
mod database;
mod doubt;
mod enqueue;
mod fallback;
mod fleet;
mod foreign;
mod inbox;
mod inspect;
mod leader;
mod listen;
mod manager;
mod migrations;
mod notifier;
mod outbox;
mod outbox_desk;
mod pool_meter;
mod pooler;
mod probe;
mod queues;
mod run_control;
mod run_results;
mod run_store;
mod schedules;
mod source;
mod starts;
#[cfg(feature = "testing")]
mod test_database;
mod transaction_step;
mod undelivered;
mod undelivered_desk;
mod verification;

pub use crate::lifecycle::{Again, RepeatRun};
pub use api_tokens::{ApiTokens, NewToken, TokenFacts, TokenHash, TokenSummary};
pub use control::Operator;
pub use database::{Database, DatabaseError, DatabaseSettings};
pub use enqueue::{EnqueueError, Outbox};
pub use fallback::PostgresFallback;
pub use fleet::{FleetSettings, PostgresFleet};
pub use inbox::{Effect, EffectError, Inbox};
pub use inspect::{Inspector, OLD_SNAPSHOT, Progress};
pub use leader::PostgresLeader;
pub use listen::{DEAF, listen};
pub use manager::PostgresTaskRunManager;
pub use migrations::{MigrationState, Migrator, SchemaError, roles_sql};
pub(crate) use notifier::Notifier;
pub use outbox::PostgresOutbox;
pub use outbox_desk::OutboxDesk;
pub use pooler::{Between, PoolerVerdict, test_pooler};
pub use probe::{ServerFacts, ServerVersion, probe};
pub use queues::QueueSummary;
pub use run_control::BulkAct;
pub use run_store::{PostgresRunStore, transact};
pub use schedules::{Backfill, NotBackfilled, ScheduleSpec, ScheduleView, Schedules, SetOutcome};
pub use source::{SqlSource, SqlValue};
#[cfg(feature = "testing")]
pub use test_database::{TestPostgres, postgres_for_test};
#[cfg(feature = "testing")]
pub(crate) use transaction_step::{Apart, transact_apart};
pub use undelivered::PostgresUndelivered;
pub use undelivered_desk::UndeliveredDesk;
pub use verification::PostgresRunTables;
