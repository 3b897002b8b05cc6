//! Enqueueing from Rust: in the caller's own transaction, so that a command is committed with the caller's rows or not at
//! all.

use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::database::DatabaseError;
use crate::delivery::{CommandKind, Direct, KeyHash, Topics};

const ENQUEUE_COMMANDS: &str = include_str!("../../queries/enqueue_commands.sql");

/// Commands written by one statement.
const PAGE: usize = 1000;
/// Bytes of payload after which a statement is full.
const PAGE_BYTES: usize = 4 << 20;

/// Writes commands into the outbox. Needs nothing but the right to call `lockgate.enqueue_commands`, which the role
/// `lockgate_sender` has.
#[derive(Debug, Clone, Default)]
pub struct Outbox {
    topics: Topics,
    hash: KeyHash,
}

/// Why nothing was enqueued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// The command can never be sent; no statement was made of it, and the transaction is as it was before.
    #[error(transparent)]
    Command(#[from] anyhow::Error),
    /// The database failed; the transaction can only be rolled back.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl Outbox {
    /// An outbox whose commands must be of a kind that these topics know, or name a topic; the hash makes the keys of
    /// those without one of their own.
    #[must_use]
    pub fn new(topics: Topics, hash: KeyHash) -> Self {
        Self { topics, hash }
    }

    /// Enqueues a command in the caller's transaction and answers its message id. A command of the same idempotency key
    /// that still waits stands for this one.
    ///
    /// # Errors
    /// The command can never be sent, or the database failed; see [`EnqueueError`] for what that leaves.
    pub async fn enqueue_in<C: CommandKind>(
        &self,
        transaction: &mut PgConnection,
        command: Direct<C>,
    ) -> Result<Uuid, EnqueueError> {
        let mut page = Page::default();
        let id = page.add(command, self)?;
        page.write(transaction).await?;
        Ok(id)
    }

    /// Enqueues commands in the caller's transaction, in this order and in pages of one statement each.
    ///
    /// # Errors
    /// The first command that can never be sent, or the database failed. Pages before it are written: roll back.
    pub async fn enqueue_all_in<C: CommandKind>(
        &self,
        transaction: &mut PgConnection,
        commands: impl IntoIterator<Item = Direct<C>>,
    ) -> Result<Vec<Uuid>, EnqueueError> {
        let (mut ids, mut commands) = (Vec::new(), commands.into_iter());
        let mut page = Page::of(&mut commands, self, &mut ids)?;
        while !page.message_ids.is_empty() {
            // The next page is made while the server writes this one.
            let next = async { Page::of(&mut commands, self, &mut ids) };
            let (written, next) = futures::join!(page.write(transaction), next);
            written?;
            page = next?;
        }
        Ok(ids)
    }
}

/// The columns of rows to be written.
#[derive(Default)]
struct Page {
    command_types: Vec<String>,
    message_ids: Vec<Uuid>,
    routes: Vec<String>,
    keys: Vec<Option<Vec<u8>>>,
    headers: Vec<String>,
    payloads: Vec<Vec<u8>>,
    not_befores: Vec<Option<chrono::DateTime<chrono::Utc>>>,
    bytes: usize,
}

impl Page {
    /// As many of the commands as fit; none are left when it is empty.
    fn of<C: CommandKind>(
        commands: &mut impl Iterator<Item = Direct<C>>,
        outbox: &Outbox,
        ids: &mut Vec<Uuid>,
    ) -> Result<Self, anyhow::Error> {
        let mut page = Self::default();
        while page.message_ids.len() < PAGE && page.bytes < PAGE_BYTES {
            let Some(command) = commands.next() else { break };
            ids.push(page.add(command, outbox)?);
        }
        Ok(page)
    }

    fn add<C: CommandKind>(&mut self, command: Direct<C>, outbox: &Outbox) -> Result<Uuid, anyhow::Error> {
        let queued = command.into_queued(&outbox.topics, &outbox.hash)?;
        self.bytes += queued.payload.len();
        self.command_types.push(queued.command_type);
        self.message_ids.push(queued.message_id);
        self.routes.push(queued.route);
        self.keys.push(queued.key);
        self.headers.push(queued.headers);
        self.payloads.push(queued.payload);
        self.not_befores.push(queued.not_before);
        Ok(queued.message_id)
    }

    async fn write(self, transaction: &mut PgConnection) -> Result<i64, DatabaseError> {
        let query = sqlx::query(ENQUEUE_COMMANDS)
            .bind(self.command_types)
            .bind(self.message_ids)
            .bind(self.routes)
            .bind(self.keys)
            .bind(self.headers)
            .bind(self.payloads)
            .bind(self.not_befores);
        Ok(query.fetch_one(transaction).await?.try_get(0)?)
    }
}
