//! The runtime of the orchestrator's own I/O, apart from the caller's.

use std::future::Future;
use std::io;

use tokio::runtime::{Builder, EnterGuard, Runtime};

/// A small runtime that may be dropped anywhere, also where blocking is not allowed.
pub(crate) struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    pub(crate) fn new() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(4)
            .thread_name("lockgate-direct-io")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// What is made while the guard lives belongs to this runtime.
    pub(crate) fn enter(&self) -> EnterGuard<'_> {
        self.runtime().enter()
    }

    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime().spawn(work);
    }

    /// Waits on the calling thread, which must be none of a runtime's.
    pub(super) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime().block_on(work)
    }

    fn runtime(&self) -> &Runtime {
        self.0.as_ref().expect("a runtime is there until it is dropped")
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
