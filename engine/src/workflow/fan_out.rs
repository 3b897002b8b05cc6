//! A fan-out with its types erased: ids, and for ids what to send.

use std::panic::{AssertUnwindSafe, catch_unwind};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::resources::Resources;
use super::source::{IdPages, Source};
use crate::delivery::Command;

/// What a fan-out came to: the first outcomes of its items.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FanOutSummary {
    /// Items planned.
    pub items: u64,
    /// Batches they were in.
    pub batches: u64,
    /// Acknowledged by the broker.
    pub delivered: u64,
    /// Can never go as they are; stored.
    pub refused: u64,
    /// May be in the log; stored and redelivered.
    pub unknown: u64,
    /// No message was made for them.
    pub skipped: u64,
    /// Their row was gone when read.
    pub vanished: u64,
}

/// What was made of an item.
pub(crate) enum Made {
    /// Something to send.
    Command(Command),
    /// Nothing to send.
    Skipped,
    /// No message could be made of it; says why without quoting its data.
    Failed {
        /// From a closed set.
        code: &'static str,
        /// In words.
        detail: String,
    },
}

#[async_trait]
pub(crate) trait FanOut: Send + Sync {
    fn consistent(&self) -> bool;
    async fn ids(&self, resources: &Resources, after: Option<i64>) -> anyhow::Result<Box<dyn IdPages>>;
    /// What to send for these ids, ascending; ids without a row are left out.
    async fn make(&self, resources: &Resources, ids: &[i64]) -> anyhow::Result<Vec<(i64, Made)>>;
}

/// A source and the function that makes messages of its rows.
pub(super) struct SourceFanOut<S, M> {
    pub(super) source: S,
    pub(super) message: M,
}

#[async_trait]
impl<S, M> FanOut for SourceFanOut<S, M>
where
    S: Source,
    M: Fn(&S::Row) -> anyhow::Result<Option<Command>> + Send + Sync + 'static,
{
    fn consistent(&self) -> bool {
        self.source.consistent()
    }

    async fn ids(&self, resources: &Resources, after: Option<i64>) -> anyhow::Result<Box<dyn IdPages>> {
        #[cfg(feature = "testing")]
        if let Some(ids) = crate::testing::fake_ids(resources, self.source.name(), after) {
            return Ok(ids);
        }
        self.source.ids(resources, after).await
    }

    async fn make(&self, resources: &Resources, ids: &[i64]) -> anyhow::Result<Vec<(i64, Made)>> {
        let mut rows = self.rows(resources, ids).await?;
        if rows.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            rows.sort_by_key(|(id, _)| *id);
        }
        let mut made: Vec<(i64, Made)> = Vec::with_capacity(rows.len());
        let mut asked = ids.iter();
        for (id, row) in &rows {
            if made.last().is_some_and(|(last, _)| last == id) {
                let detail = "the source returned more than one row for the item".to_owned();
                made.pop();
                made.push((
                    *id,
                    Made::Failed {
                        code: "duplicate_row",
                        detail,
                    },
                ));
                continue;
            }
            anyhow::ensure!(
                asked.any(|asked| asked == id),
                "the source returned item {id}, which was not asked for"
            );
            made.push((*id, self.make_one(row)));
        }
        Ok(made)
    }
}

impl<S, M> SourceFanOut<S, M>
where
    S: Source,
    M: Fn(&S::Row) -> anyhow::Result<Option<Command>> + Send + Sync + 'static,
{
    async fn rows(&self, resources: &Resources, ids: &[i64]) -> anyhow::Result<Vec<(i64, S::Row)>> {
        #[cfg(feature = "testing")]
        if let Some(rows) = crate::testing::fake_rows(resources, self.source.name(), ids) {
            return rows;
        }
        self.source.rows(resources, ids).await
    }

    fn make_one(&self, row: &S::Row) -> Made {
        // One bad row must not take its neighbours or the process down.
        match catch_unwind(AssertUnwindSafe(|| (self.message)(row))) {
            Ok(Ok(Some(command))) => Made::Command(command),
            Ok(Ok(None)) => Made::Skipped,
            Ok(Err(error)) => Made::Failed {
                code: "not_serialisable",
                detail: format!("{error:#}"),
            },
            Err(_) => Made::Failed {
                code: "panicked",
                detail: "the message function panicked".to_owned(),
            },
        }
    }
}
