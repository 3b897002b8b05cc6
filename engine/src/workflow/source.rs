//! Where the items of a fan-out come from.

use async_trait::async_trait;

use super::resources::Resources;

/// The ids of a fan-out, a page at a time.
#[async_trait]
pub trait IdPages: Send {
    /// The next ids, at most `limit`, strictly ascending and above all earlier ones. None, and only that, is the end.
    ///
    /// # Errors
    /// They cannot be read now; the page may be asked for again.
    async fn next(&mut self, limit: usize) -> anyhow::Result<Vec<i64>>;
}

/// Items and their rows. What it waits for it bounds itself: nobody else knows how long a read may take, and one that never comes
/// back holds its batch, under a lease that goes on, until the run or the replica is stopped, or the lease lost: a second later the
/// future of [`Source::rows`] is dropped where it waits.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// What is read for an item.
    type Row: Send + Sync + 'static;

    /// Names the step.
    fn name(&self) -> &str;

    /// Whether the plan is made from one snapshot; then nothing is claimed before it is whole.
    fn consistent(&self) -> bool {
        false
    }

    /// Opens the ids above `after`.
    ///
    /// # Errors
    /// They cannot be read now.
    async fn ids(&self, resources: &Resources, after: Option<i64>) -> anyhow::Result<Box<dyn IdPages>>;

    /// Reads the rows of these ids (ascending), in any order. An id without a row has *vanished*, which is counted.
    ///
    /// # Errors
    /// They cannot be read now.
    async fn rows(&self, resources: &Resources, ids: &[i64]) -> anyhow::Result<Vec<(i64, Self::Row)>>;
}
