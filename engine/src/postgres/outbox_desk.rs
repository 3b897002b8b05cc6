//! What an operator does with commands that are stuck in the outbox; each is one call of the function that SQL users call too.

use super::database::{Database, DatabaseError};
use super::inspect::document;
use crate::inspect::{OutboxAct, OutboxBulk, OutboxChange};

const MOVE_OUTBOX: &str = include_str!("../../queries/move_outbox.sql");
const DISCARD_OUTBOX: &str = include_str!("../../queries/discard_outbox.sql");

/// Rows changed in one transaction: few enough to be quick, so that relays hardly wait.
const PAGE: i32 = 1000;
/// Pages of one call.
const LOOKS: u32 = 50;

/// Takes commands out of the outbox for a person.
#[derive(Debug, Clone)]
pub struct OutboxDesk {
    database: Database,
    actor: Option<String>,
}

#[derive(serde::Deserialize)]
struct Page {
    seen: i64,
    changed: i64,
    last_seq: Option<i64>,
}

impl OutboxDesk {
    /// Acts on a database in somebody's name; none: the name of the database role is recorded.
    #[must_use]
    pub fn new(database: Database, actor: Option<String>) -> Self {
        Self { database, actor }
    }

    /// Does something to commands, page by page, each its own transaction, or counts them: those of before stay changed
    /// when one fails. It may stop before it has looked at all: `next` says behind which one to go on.
    ///
    /// # Errors
    /// The database failed, no reason was given, or commands are to move that go where the configuration says, and no topic
    /// is named; with what was done before.
    pub async fn act(&self, bulk: &OutboxBulk) -> Result<OutboxChange, (OutboxChange, DatabaseError)> {
        let mut done = OutboxChange {
            next: bulk.after,
            ..OutboxChange::default()
        };
        for _ in 0..LOOKS {
            match self.page(bulk, done.next).await {
                Ok(page) => done.add(page),
                Err(error) => return Err((done, error)),
            }
            if done.next.is_none() {
                break;
            }
        }
        Ok(done)
    }

    async fn page(&self, bulk: &OutboxBulk, behind: Option<i64>) -> Result<OutboxChange, DatabaseError> {
        let sql = match bulk.act {
            OutboxAct::Move => MOVE_OUTBOX,
            OutboxAct::Discard => DISCARD_OUTBOX,
        };
        let mut query = self
            .database
            .statement(sql)
            .bind(bulk.reason.clone())
            .bind(bulk.filter.ids.clone())
            .bind(bulk.filter.command_type.clone())
            .bind(bulk.filter.route.clone())
            .bind(bulk.filter.before)
            .bind(behind)
            .bind(PAGE)
            .bind(self.actor.clone())
            .bind(bulk.dry_run);
        if bulk.act == OutboxAct::Move {
            query = query.bind(bulk.to_topic.clone());
        }
        let page: Option<Page> = document(&self.database, query).await?;
        let page = page.ok_or_else(|| DatabaseError::Unanswered("the outbox function gave no row".to_owned()))?;
        Ok(OutboxChange {
            matched: page.seen.unsigned_abs(),
            changed: page.changed.unsigned_abs(),
            next: page.last_seq,
        })
    }
}
