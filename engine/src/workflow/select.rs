//! Branches of which the first to end counts.

use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use futures::{FutureExt, TryFutureExt};

use super::Context;
use super::context::refuse;
use super::host::{ContextHost, Race};
use super::path::Place;
use super::step::{StepError, StepFuture};

/// How long the code of branches that lost may take to come as far as it is recorded.
const RETRACE_WITHIN: Duration = Duration::from_secs(10);

/// What the first of two branches to end came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Either<A, B> {
    /// The first one, as given, ended first.
    First(A),
    /// The second one did.
    Second(B),
}

type Branch<T> = Box<dyn FnOnce(Context) -> BoxFuture<'static, anyhow::Result<T>> + Send>;
type Ended<T> = (usize, anyhow::Result<T>);

impl Context {
    /// Goes on in two branches, each with a context of its own, until one of them ends, well or not: its end is this
    /// one's. Which it was is recorded, and a replay runs that one alone. The other one is dropped where it is: it waits
    /// for nothing more, signals that it took are free again, what it did that can be undone is undone, and of a fan-out
    /// only those batches go that somebody had begun. Of two that are at their ends at once the first one counts.
    pub fn select<A, B, First, Second, FirstFut, SecondFut>(
        &self,
        first: First,
        second: Second,
    ) -> StepFuture<Either<A, B>>
    where
        First: FnOnce(Self) -> FirstFut + Send + 'static,
        FirstFut: Future<Output = anyhow::Result<A>> + Send + 'static,
        A: Send + 'static,
        Second: FnOnce(Self) -> SecondFut + Send + 'static,
        SecondFut: Future<Output = anyhow::Result<B>> + Send + 'static,
        B: Send + 'static,
    {
        let first: Branch<Either<A, B>> = Box::new(move |ctx| first(ctx).map_ok(Either::First).boxed());
        let second: Branch<Either<A, B>> = Box::new(move |ctx| second(ctx).map_ok(Either::Second).boxed());
        let ended = self.race(vec![first, second]);
        StepFuture::new(async move { Ok(ended.await?.1) })
    }

    /// The same with any number of branches that are alike; answers which of them ended first, and what it came to.
    pub fn select_all<T, F, Fut>(&self, branches: impl IntoIterator<Item = F>) -> StepFuture<(usize, T)>
    where
        F: FnOnce(Self) -> Fut + Send + 'static,
        Fut: Future<Output = anyhow::Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        let erase = |branch: F| -> Branch<T> { Box::new(move |ctx| branch(ctx).boxed()) };
        self.race(branches.into_iter().map(erase).collect())
    }

    fn race<T: Send + 'static>(&self, branches: Vec<Branch<T>>) -> StepFuture<(usize, T)> {
        let place = self.place("select");
        if branches.is_empty() {
            return refuse(format!("select {place} has no branches: none could ever end"));
        }
        let race = self.host.clone().select(place.clone(), branches.len());
        let ctx = self.clone();
        StepFuture::new(async move {
            let (winner, outcome) = match race.await? {
                Race { won: None, .. } => ctx.run_to_first_end(place, branches).await?,
                Race {
                    won: Some((winner, at)),
                    retraced,
                } => {
                    let (branches, lost) = ctx.retrace(&place, branches, winner, &retraced).await;
                    ctx.host.clone().undo_lost(lost).await?;
                    let branch = ctx.branch(&place, winner);
                    let outcome = match branches.into_iter().nth(winner).flatten() {
                        Some(run) => run(branch.clone()).await,
                        None => Err(anyhow::anyhow!("select {place} has no branch {winner}")),
                    };
                    ctx.hears_of(at.max(branch.now()));
                    (winner, outcome)
                }
            };
            Ok((winner, outcome?))
        })
    }

    async fn run_to_first_end<T>(&self, place: Place, branches: Vec<Branch<T>>) -> anyhow::Result<Ended<T>> {
        let count = branches.len();
        let contexts: Vec<Self> = (0..count).map(|number| self.branch(&place, number)).collect();
        let running = branches.into_iter().zip(&contexts);
        let mut running: Vec<_> = running.map(|(branch, ctx)| Some(branch(ctx.clone()))).collect();
        let Some((winner, outcome)) = first_end(&*self.host, &mut running).await else {
            let path = place.to_string();
            return Err(StepError::Cancelled { path }.into());
        };
        let lost = lost_to(winner, &place, count);
        self.host.lose(&lost);
        drop(running);
        let at = self.host.clone().won(place, winner, lost).await?;
        self.hears_of(at.max(contexts[winner].now()));
        Ok((winner, outcome))
    }

    /// Runs branches that lost once more, as far as they are recorded; answers the others, and all that lost.
    async fn retrace<T>(
        &self,
        place: &Place,
        branches: Vec<Branch<T>>,
        winner: usize,
        retraced: &[usize],
    ) -> (Vec<Option<Branch<T>>>, Vec<String>) {
        let lost = lost_to(winner, place, branches.len());
        self.host.lose(&lost);
        let mut branches: Vec<_> = branches.into_iter().map(Some).collect();
        let again = retraced
            .iter()
            .filter(|number| **number != winner)
            .filter_map(|number| {
                let branch = branches.get_mut(*number)?.take()?;
                Some(branch(self.branch(place, *number)))
            });
        let mut again = join_all(again.collect::<Vec<_>>());
        let come_far_enough = poll_fn(|cx| {
            let ended = again.poll_unpin(cx).is_ready();
            match ended || self.host.is_retraced(&lost) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        // What was not come to is missed when it is to be undone, and said then.
        if retraced.iter().any(|number| *number != winner) {
            let _ = tokio::time::timeout(RETRACE_WITHIN, come_far_enough).await;
        }
        (branches, lost)
    }
}

/// What the paths of the other branches begin with.
fn lost_to(winner: usize, place: &Place, count: usize) -> Vec<String> {
    let others = (0..count).filter(|number| *number != winner);
    others.map(|number| place.branch(number)).collect()
}

/// The first end of any that are running; none when all came to their ends and none of them decides.
async fn first_end<T>(
    host: &dyn ContextHost,
    running: &mut [Option<BoxFuture<'static, anyhow::Result<T>>>],
) -> Option<Ended<T>> {
    poll_fn(|cx| {
        for (number, slot) in running.iter_mut().enumerate() {
            let Some(Poll::Ready(outcome)) = slot.as_mut().map(|branch| branch.poll_unpin(cx)) else {
                continue;
            };
            *slot = None;
            if host.decides() {
                return Poll::Ready(Some((number, outcome)));
            }
        }
        match running.iter().all(Option::is_none) {
            true => Poll::Ready(None),
            false => Poll::Pending,
        }
    })
    .await
}
