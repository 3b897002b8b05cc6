//! A collector that takes OTLP over HTTP in this process and decodes it, and that can be as bad as real ones.

mod seen;

use std::convert::Infallible;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flate2::read::GzDecoder;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::replica::PATIENCE;
use crate::wait_until;

pub use seen::{Attributes, Log, Point, Seen, Span, Told};

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// Takes what is sent.
    Answer,
    /// Takes nothing and says so with this status.
    Refuse(u16),
    /// Takes what is sent, each time after a while.
    Slow(Duration),
    /// Takes connections and requests and never answers.
    Freeze,
    /// Breaks each connection off.
    Reset,
    /// Answers what is no HTTP.
    Garbage,
    /// Lets nobody connect: its port is closed.
    Dead,
}

/// A running collector; it ends when this is dropped.
pub struct Collector {
    address: SocketAddr,
    scheme: &'static str,
    seen: Arc<Mutex<Seen>>,
    mode: watch::Sender<Mode>,
}

impl Collector {
    /// One that answers.
    ///
    /// # Panics
    /// There is no port for it.
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// One that speaks TLS.
    ///
    /// # Panics
    /// There is no port for it.
    pub async fn start_with(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, told) = watch::channel(Mode::Answer);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let scheme = if tls.is_some() { "https" } else { "http" };
        tokio::spawn(accept(listener, address, tls, seen.clone(), told));
        Self {
            address,
            scheme,
            seen,
            mode,
        }
    }

    /// From now on it behaves so; connections that it has are broken off.
    pub fn mode(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Where it is.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}://localhost:{}", self.scheme, self.address.port())
    }

    /// What a process is started with to send everything here, soon.
    #[must_use]
    pub fn env(&self) -> Vec<(&'static str, String)> {
        let soon = |name| (name, "200".to_owned());
        vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", self.endpoint()),
            ("OTEL_METRIC_EXPORT_INTERVAL", "300".to_owned()),
            soon("OTEL_BSP_SCHEDULE_DELAY"),
            soon("OTEL_BLRP_SCHEDULE_DELAY"),
            ("LOCKGATE_TELEMETRY_FLEET_INTERVAL", "500ms".to_owned()),
        ]
    }

    /// What has come so far.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until what has come is as it should be.
    ///
    /// # Panics
    /// It does not come to be.
    pub async fn wait_for(&self, what: &str, is_there: impl Fn(&Seen) -> bool) {
        wait_until(PATIENCE, what, async || is_there(&self.seen())).await;
    }
}

async fn accept(
    first: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    seen: Arc<Mutex<Seen>>,
    mut mode: watch::Receiver<Mode>,
) {
    let mut listener = Some(first);
    loop {
        if *mode.borrow_and_update() == Mode::Dead {
            listener = None;
            if mode.changed().await.is_err() {
                return;
            }
            continue;
        }
        // The port may have been somebody else's meanwhile, which is not for long.
        let Some(open) = &listener else {
            listener = TcpListener::bind(address).await.ok();
            tokio::task::yield_now().await;
            continue;
        };
        tokio::select! {
            changed = mode.changed() => if changed.is_err() { return },
            accepted = open.accept() => {
                let Ok((connection, _)) = accepted else { continue };
                tokio::spawn(attend(connection, tls.clone(), seen.clone(), mode.clone()));
            }
        }
    }
}

/// One connection, as long as the mode does not change.
async fn attend(
    mut connection: TcpStream,
    tls: Option<TlsAcceptor>,
    seen: Arc<Mutex<Seen>>,
    mut mode: watch::Receiver<Mode>,
) {
    let now = *mode.borrow_and_update();
    match now {
        Mode::Reset => {
            // The peer hears of it as a reset and not as an end.
            let _ = connection.set_zero_linger();
            return;
        }
        Mode::Garbage => {
            let _ = connection.write_all(b"\x15\x03\x01 this is no HTTP\r\n\r\n").await;
            return;
        }
        _ => {}
    }
    let served = async {
        match tls {
            Some(tls) => {
                if let Ok(connection) = tls.accept(connection).await {
                    serve(connection, &seen, now).await;
                }
            }
            None => serve(connection, &seen, now).await,
        }
    };
    tokio::select! {
        () = served => {}
        _ = mode.changed() => {}
    }
}

async fn serve(connection: impl AsyncRead + AsyncWrite + Unpin, seen: &Arc<Mutex<Seen>>, mode: Mode) {
    let service = service_fn(|request| take(request, seen.clone(), mode));
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), service);
    let _ = connection.await;
}

async fn take(
    request: Request<Incoming>,
    seen: Arc<Mutex<Seen>>,
    mode: Mode,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return Ok(answer(StatusCode::BAD_REQUEST));
    };
    let body = body.to_bytes();
    match mode {
        Mode::Freeze => std::future::pending::<()>().await,
        Mode::Refuse(status) => {
            seen.lock().unwrap_or_else(PoisonError::into_inner).refused += 1;
            return Ok(answer(StatusCode::from_u16(status).unwrap()));
        }
        Mode::Slow(pause) => tokio::time::sleep(pause).await,
        _ => {}
    }
    let is_packed = head
        .headers
        .get(CONTENT_ENCODING)
        .is_some_and(|encoding| encoding == "gzip");
    let body = if is_packed { unpacked(&body) } else { body.to_vec() };
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.packed += usize::from(is_packed);
    seen.take(head.uri.path(), &head.headers, &body);
    Ok(answer(StatusCode::OK))
}

fn unpacked(body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(body).read_to_end(&mut plain).unwrap();
    plain
}

fn answer(status: StatusCode) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    let media_type = "application/x-protobuf".parse().unwrap();
    answer.headers_mut().insert(CONTENT_TYPE, media_type);
    answer
}
