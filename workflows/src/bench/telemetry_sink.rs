//! A collector that takes everything and keeps nothing, so that what is measured is the telling and not the being told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::Uri;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Where it listens, and what came.
pub(super) struct Sink {
    pub(super) endpoint: String,
    came: Arc<Came>,
    listening: JoinHandle<()>,
}

/// Bytes of each signal.
#[derive(Default)]
struct Came {
    traces: AtomicU64,
    others: AtomicU64,
}

impl Sink {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let came = Arc::new(Came::default());
        let router = Router::new()
            .fallback(take)
            .layer(DefaultBodyLimit::disable())
            .with_state(came.clone());
        let listening = tokio::spawn(async move { axum::serve(listener, router).await.unwrap_or(()) });
        Ok(Self {
            endpoint,
            came,
            listening,
        })
    }

    /// Bytes of traces, and of metrics and logs, since this was asked last.
    pub(super) fn taken(&self) -> (u64, u64) {
        let take = |bytes: &AtomicU64| bytes.swap(0, Ordering::Relaxed);
        (take(&self.came.traces), take(&self.came.others))
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn take(State(came): State<Arc<Came>>, uri: Uri, body: Bytes) {
    let bytes = match uri.path() {
        "/v1/traces" => &came.traces,
        _ => &came.others,
    };
    bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
}
