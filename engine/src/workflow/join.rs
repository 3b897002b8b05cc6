//! Doing the same for many, so many at once.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

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
        let mut items = items.into_iter().enumerate().fuse();
        async move {
            let recorded = joined.await?;
            let branches = place.branches();
            // Begun, and never polled yet.
            let fresh = Arc::new(AtomicUsize::new(0));
            let mut under_way = FuturesUnordered::new();
            let mut results: Vec<Option<T>> = Vec::new();
            let mut failed: Option<(usize, anyhow::Error)> = None;
            poll_fn(|cx| {
                loop {
                    let polled = under_way.poll_next_unpin(cx);
                    match polled {
                        Poll::Ready(Some((number, Ok(result)))) => {
                            let result: Option<T> = Some(result);
                            results[number] = result;
                            continue;
                        }
                        Poll::Ready(Some((number, Err(error)))) => {
                            if failed.as_ref().is_none_or(|(first, _)| number < *first) {
                                failed = Some((number, error));
                            }
                            continue;
                        }
                        Poll::Pending | Poll::Ready(None) => {}
                    }
                    // What is recorded is come to again, whatever fails before it in a replay. Nothing else is begun before it
                    // is known whether something has failed.
                    let is_known = || fresh.load(Ordering::Relaxed) == 0 && !self.host().is_telling(&branches);
                    let begins = results.len() < recorded
                        || (failed.is_none() && (recorded == 0 || under_way.is_empty() || is_known()));
                    let has_room = under_way.len() < at_once.max(1);
                    let Some((number, item)) = (has_room && begins).then(|| items.next()).flatten() else {
                        return if under_way.is_empty() {
                            Poll::Ready(())
                        } else {
                            Poll::Pending
                        };
                    };
                    results.push(None);
                    fresh.fetch_add(1, Ordering::Relaxed);
                    let branch = self.branch_of_join(&place, number, now, number >= at_once);
                    let (branch, fresh) = (each(branch, item), fresh.clone());
                    under_way.push(async move {
                        fresh.fetch_sub(1, Ordering::Relaxed);
                        (number, branch.await)
                    });
                }
            })
            .await;
            failed.map_or_else(|| Ok(results.into_iter().flatten().collect()), |(_, error)| Err(error))
        }
    }
}
