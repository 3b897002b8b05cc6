//! Doing the same for many, so many at once.

use std::future::Future;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::context::Context;

impl Context {
    /// Does something for each item, for so many at once, each in a branch of its own that counts its own places; what they
    /// came to stands in the order of the items. Items are taken as there is room, so no more of them are in memory than are
    /// under way. When one fails no further ones are begun, those under way go on to their end, and the error is that of the
    /// first item that failed: the same in every replay, whichever of them ended first.
    pub fn join_all<'a, I, T, F, Fut>(
        &'a self,
        items: I,
        at_once: usize,
        mut each: F,
    ) -> impl Future<Output = anyhow::Result<Vec<T>>> + Send + use<'a, I, T, F, Fut>
    where
        I: IntoIterator<IntoIter: Send + 'a>,
        F: FnMut(Self, I::Item) -> Fut + Send + 'a,
        Fut: Future<Output = anyhow::Result<T>> + Send + 'a,
        T: Send + 'a,
    {
        let place = self.place("join");
        let (now, joined) = (self.now(), self.host().join(place.clone()));
        let mut items = items.into_iter().enumerate();
        async move {
            joined.await?;
            let mut under_way = FuturesUnordered::new();
            let mut results: Vec<Option<T>> = Vec::new();
            let mut failed: Option<(usize, anyhow::Error)> = None;
            loop {
                while failed.is_none() && under_way.len() < at_once.max(1) {
                    let Some((number, item)) = items.next() else { break };
                    results.push(None);
                    let branch = each(self.branch_of_join(&place, number, now), item);
                    under_way.push(async move { (number, branch.await) });
                }
                match under_way.next().await {
                    None => break,
                    Some((number, Ok(result))) => results[number] = Some(result),
                    Some((number, Err(error))) => {
                        if failed.as_ref().is_none_or(|(first, _)| number < *first) {
                            failed = Some((number, error));
                        }
                    }
                }
            }
            failed.map_or_else(|| Ok(results.into_iter().flatten().collect()), |(_, error)| Err(error))
        }
    }
}
