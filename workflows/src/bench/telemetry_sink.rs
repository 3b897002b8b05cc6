//! A collector that takes everything and keeps nothing, in a process of its own: what is measured is the telling, not the
//! being told.

use std::io::{Write as _, stdin, stdout};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::Uri;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::meters::seconds;

/// The arguments by which this binary becomes one.
const ARGUMENTS: [&str; 2] = ["bench", "sink"];

/// What came since it was asked last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    /// Bytes of traces, not compressed.
    pub(super) traces: u64,
    /// Bytes of metrics and logs.
    pub(super) others: u64,
}

/// A sink that runs, until this is dropped.
pub(super) struct Sink {
    pub(super) endpoint: String,
    child: Child,
    asked: ChildStdin,
    says: Lines<BufReader<ChildStdout>>,
}

impl Sink {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(ARGUMENTS)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let asked = child.stdin.take().context("the sink cannot be asked")?;
        let mut says = BufReader::new(child.stdout.take().context("the sink cannot be heard")?).lines();
        Ok(Self {
            endpoint: said(&mut says).await?,
            child,
            asked,
            says,
        })
    }

    /// What came since this was asked last.
    pub(super) async fn taken(&mut self) -> anyhow::Result<Taken> {
        self.asked.write_all(b"\n").await?;
        let line = said(&mut self.says).await?;
        let (traces, others) = line.split_once(' ').context("the sink says two numbers")?;
        Ok(Taken {
            traces: traces.parse()?,
            others: others.parse()?,
        })
    }

    /// Processor seconds that it used so far.
    pub(super) fn cpu_s(&self) -> f64 {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok());
        pid.and_then(|pid| seconds(pid, false)).unwrap_or_default()
    }
}

async fn said(says: &mut Lines<impl AsyncBufRead + Unpin>) -> anyhow::Result<String> {
    says.next_line().await?.context("the sink has ended")
}

/// Bytes of each signal.
#[derive(Default)]
struct Came {
    traces: AtomicU64,
    others: AtomicU64,
}

/// Is one of these processes: says where it listens, then with each line that it reads what came; ends with its input.
pub(super) async fn sink() -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let came = Arc::new(Came::default());
    let router = Router::new()
        .fallback(take)
        .layer(DefaultBodyLimit::disable())
        .with_state(came.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap_or(()) });
    tokio::task::spawn_blocking(move || tell(&endpoint, &came)).await??;
    Ok(())
}

fn tell(endpoint: &str, came: &Came) -> std::io::Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{endpoint}")?;
    out.flush()?;
    for asked in stdin().lines() {
        asked?;
        let take = |bytes: &AtomicU64| bytes.swap(0, Ordering::Relaxed);
        writeln!(out, "{} {}", take(&came.traces), take(&came.others))?;
        out.flush()?;
    }
    Ok(())
}

async fn take(State(came): State<Arc<Came>>, uri: Uri, body: Bytes) {
    let bytes = match uri.path() {
        "/v1/traces" => &came.traces,
        _ => &came.others,
    };
    bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
}
