//! Many tasks that start together.

use std::sync::Arc;

use futures::future::join_all;
use lockgate::lifecycle::TaskRunManager;

use super::harness::Harness;

pub(super) const TASKS: usize = 12;

pub(super) type Handle = Arc<dyn TaskRunManager>;

/// One handle a task.
pub(super) fn many_handles(harness: &dyn Harness) -> Vec<Handle> {
    (0..TASKS).map(|_| harness.handle()).collect()
}

/// Runs one task for each handle, all at once, and answers what they found, in the handles' order.
pub(super) async fn at_once<T, Work, Done>(handles: &[Handle], work: Work) -> Vec<T>
where
    T: Send + 'static,
    Work: Fn(usize, Handle) -> Done,
    Done: Future<Output = T> + Send + 'static,
{
    let gate = Arc::new(tokio::sync::Barrier::new(handles.len()));
    let tasks = handles.iter().enumerate().map(|(index, handle)| {
        let (gate, done) = (Arc::clone(&gate), work(index, Arc::clone(handle)));
        tokio::spawn(async move {
            gate.wait().await;
            done.await
        })
    });
    join_all(tasks).await.into_iter().map(Result::unwrap).collect()
}
