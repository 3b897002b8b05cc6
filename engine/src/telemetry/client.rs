//! Speaks HTTP to a collector, on the plain thread of whoever exports: nothing of it touches the runtime.

use std::error::Error;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::HeaderMap;
use hyper::client::conn::http1::handshake;
use hyper::header::{CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper_util::rt::TokioIo;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, crypto};

use super::settings::{Target, Tls};
use crate::config::Header;

/// Most bytes of an answer that are read.
const LONGEST_ANSWER: usize = 1024 * 1024;
/// Why a collector did not take what was sent: a closed set, since the text of an error may quote a URL with a password.
const TROUBLES: [&str; 6] = ["refused", "timeout", "tls", "status_4xx", "status_5xx", "other"];

/// What the last try failed of; clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Trouble(Arc<AtomicUsize>);

impl Trouble {
    /// It in one word.
    pub(super) fn class(&self) -> &'static str {
        TROUBLES[self.0.load(Ordering::Relaxed).min(TROUBLES.len() - 1)]
    }

    fn is(&self, class: &'static str) {
        let place = TROUBLES.iter().position(|known| *known == class);
        self.0.store(place.unwrap_or(TROUBLES.len() - 1), Ordering::Relaxed);
    }
}

/// A client of one collector. Each request has a connection of its own: there is one every few seconds.
#[derive(Debug)]
pub(super) struct Client {
    /// Of its own, driven by whoever exports.
    runtime: Runtime,
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
    headers: Option<Vec<Header>>,
    trouble: Trouble,
}

impl Client {
    /// A client, and where it says what went wrong last.
    ///
    /// # Errors
    /// A certificate or key cannot be read.
    pub(super) fn new(target: &Target) -> anyhow::Result<(Self, Trouble)> {
        let is_secured = target.url.starts_with("https:");
        let tls = is_secured.then(|| config_of(&target.tls)).transpose()?;
        let trouble = Trouble::default();
        let client = Self {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            tls: tls.map(Arc::new),
            timeout: target.timeout,
            headers: target.headers.clone(),
            trouble: trouble.clone(),
        };
        Ok((client, trouble))
    }

    async fn send(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let uri = std::mem::take(request.uri_mut());
        *request.uri_mut() = uri.path_and_query().map_or("/", |path| path.as_str()).parse()?;
        let host = uri.host().ok_or("no host")?;
        let port = uri.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let headers = request.headers_mut();
        if let Some(own) = &self.headers {
            replace(headers, own);
        }
        headers.insert(HOST, HeaderValue::from_str(&format!("{host}:{port}"))?);
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        // Of an address of IPv6 they are no part.
        let host = host.trim_matches(['[', ']']);
        self.trouble.is("refused");
        let connection = TcpStream::connect((host, port)).await?;
        match &self.tls {
            None => self.ask(connection, request).await,
            Some(tls) => {
                self.trouble.is("tls");
                let name = ServerName::try_from(host.to_owned())?;
                let connection = TlsConnector::from(tls.clone()).connect(name, connection).await?;
                let answer = self.ask(connection, request).await;
                // What we show of ourselves is looked at when for us the connection is made already.
                if matches!(&answer, Err(error) if is_of_tls(error.as_ref())) {
                    self.trouble.is("tls");
                }
                answer
            }
        }
    }

    async fn ask(
        &self,
        connection: impl AsyncRead + AsyncWrite + Unpin,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, HttpError> {
        self.trouble.is("other");
        let (mut sender, connection) = handshake(TokioIo::new(connection)).await?;
        let answered = async {
            let answer = sender.send_request(request.map(Full::new)).await?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, LONGEST_ANSWER).collect().await?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        tokio::pin!(connection, answered);
        tokio::select! {
            answer = &mut answered => answer,
            // Its end is the answer's too, or an error of it.
            _ = &mut connection => answered.await,
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let asking = async { tokio::time::timeout(self.timeout, self.send(request)).await };
        // Whoever exports is a plain thread that has nothing else to do, and that a panic would end for good.
        let asked = catch_unwind(AssertUnwindSafe(|| self.runtime.block_on(asking)));
        let answer = match asked {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                self.trouble.is("timeout");
                Err("timed out".into())
            }
            Err(_) => {
                self.trouble.is("other");
                Err("panicked".into())
            }
        };
        match &answer {
            Ok(response) if response.status().is_client_error() => self.trouble.is("status_4xx"),
            Ok(response) if response.status().is_server_error() => self.trouble.is("status_5xx"),
            _ => {}
        }
        answer
    }
}

/// Has these in the place of those that the SDK has found in a variable, which are of all signals.
fn replace(headers: &mut HeaderMap, own: &[Header]) {
    let mut found = std::mem::take(headers);
    for name in [CONTENT_TYPE, CONTENT_ENCODING, USER_AGENT] {
        if let Some(value) = found.remove(&name) {
            headers.insert(name, value);
        }
    }
    for (name, value) in own {
        headers.insert(name.clone(), value.clone());
    }
}

fn is_of_tls(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if wrapped.is_some_and(|wrapped| wrapped.is::<rustls::Error>()) {
            return true;
        }
        next = error.source();
    }
    false
}

fn config_of(tls: &Tls) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(match &tls.authority {
        Some(path) => only(path)?,
        None => trusted(),
    });
    let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) else {
        return Ok(builder.with_no_client_auth());
    };
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| unreadable(key))?;
    Ok(builder.with_client_auth_cert(chain(certificate)?, key)?)
}

/// What the system trusts.
fn trusted() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn only(path: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(path)? {
        roots.add(certificate)?;
    }
    anyhow::ensure!(!roots.is_empty(), "{} holds no certificate", path.display());
    Ok(roots)
}

fn chain(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).with_context(|| unreadable(path))?;
    let all: Result<Vec<_>, _> = read.collect();
    all.with_context(|| unreadable(path))
}

fn unreadable(path: &Path) -> String {
    format!("{} cannot be read", path.display())
}
