//! Connections: how many, how slow, and how they end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Api, ApiParts, routes, trace};

/// How long the head of a request may take, and how long a connection may lie idle between two.
const HEAD: Duration = Duration::from_secs(15);
/// Most bytes of a head; also what is read ahead of a body.
const BUFFER: usize = 128 << 10;
/// After a failure to accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The HTTP API at its address, not serving yet.
pub struct ApiServer {
    listener: TcpListener,
    router: Router,
    connections: usize,
    drain: Duration,
    stop: CancellationToken,
}

impl ApiServer {
    /// Takes the address; requests wait until it serves. When `stop` is cancelled it takes no more of them.
    ///
    /// # Errors
    /// The address cannot be had.
    pub async fn bind(listen: &str, parts: ApiParts, stop: CancellationToken) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen).await;
        let listener = listener.with_context(|| format!("the HTTP API cannot listen at {listen}"))?;
        let (connections, drain) = (parts.settings.connections, parts.settings.drain);
        let api = Api::new(parts, stop.clone());
        Ok(Self {
            listener,
            router: routes::router()
                .layer(axum::middleware::from_fn(trace::follow))
                .with_state(api),
            connections,
            drain,
            stop,
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until told to stop, then lets the requests that are there end; false: some did not end in time.
    pub async fn serve(self) -> bool {
        serve_router(self.listener, self.router, self.connections, self.drain, self.stop).await
    }
}

/// Answers at an address until told to stop, then lets the requests that are there end; false: some did not in time.
pub(crate) async fn serve_router(
    listener: TcpListener,
    router: Router,
    connections: usize,
    drain: Duration,
    stop: CancellationToken,
) -> bool {
    let graceful = GracefulShutdown::new();
    let free = Arc::new(Semaphore::new(connections));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &free) => accepted,
        };
        let Some((stream, permit)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Answers are small and complete: nothing is gained by holding them back.
        let _ = stream.set_nodelay(true);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // A client that breaks off, or speaks no HTTP, is no failure of ours.
            let _ = connection.await;
            drop(permit);
        });
    }
    drop(listener);
    tokio::time::timeout(drain, graceful.shutdown()).await.is_ok()
}

/// The next connection, when there may be one more. None: it could not be accepted.
async fn accept(
    listener: &TcpListener,
    free: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = free.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            tracing::warn!(name: "connection_not_accepted", %error, "a connection could not be accepted");
            None
        }
    }
}
