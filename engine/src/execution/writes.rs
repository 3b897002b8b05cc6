//! Writes of steps that go on though nobody waits for them any more: what they come to must be known before others decide.

use std::sync::Arc;

use super::owner_host::{Left, OwnerHost};

impl OwnerHost {
    /// Writes in a task of its own. Code that is dropped meanwhile is not told; [`OwnerHost::written`] is.
    pub(super) async fn surely<T: Send + 'static>(
        self: &Arc<Self>,
        path: &str,
        write: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let writing = Writing::begin(self.clone(), path.to_owned());
        let written = tokio::spawn(async move {
            let _writing = writing;
            write.await
        });
        match written.await {
            Ok(written) => written,
            // The process ends, or the write panicked: whether it was written, a replay finds.
            Err(_) => {
                self.leave(Left::Retry(format!("the write of step {path} ended early")))
                    .await
            }
        }
    }

    /// Ends when nothing under a prefix is on its way.
    pub(super) async fn written(&self, prefix: &str) {
        loop {
            let mut came = std::pin::pin!(self.came.notified());
            came.as_mut().enable();
            let is_writing = self.lock().writing.iter().any(|path| path.starts_with(prefix));
            if !is_writing {
                return;
            }
            came.await;
        }
    }
}

struct Writing(Arc<OwnerHost>, String);

impl Writing {
    fn begin(host: Arc<OwnerHost>, path: String) -> Self {
        host.lock().writing.insert(path.clone());
        Self(host, path)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.lock().writing.remove(&self.1);
        self.0.ring();
        self.0.poller.wake();
    }
}
