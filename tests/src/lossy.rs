//! A connection to Postgres that can lose an answer: what was asked is done, but the asker never hears of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// Forwards to a server, and cuts the connection instead of forwarding the answer to a commit.
pub struct LossyConnection {
    url: String,
    to_lose: Arc<AtomicUsize>,
    lost: Arc<AtomicUsize>,
}

impl LossyConnection {
    /// Listens in front of the server of this URL.
    ///
    /// # Panics
    /// The URL names no host and port.
    pub async fn to(url: &str) -> Self {
        let (before_host, rest) = url.rsplit_once('@').unwrap();
        let (server, database) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (to_lose, lost) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let url = format!("{before_host}@127.0.0.1:{port}/{database}?sslmode=disable");
        tokio::spawn(accept(
            listener,
            server.to_owned(),
            Arc::clone(&to_lose),
            Arc::clone(&lost),
        ));
        Self { url, to_lose, lost }
    }

    /// The URL that leads through here.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Loses the answers to the next so many commits.
    pub fn lose_answers(&self, answers: usize) {
        self.to_lose.store(answers, Ordering::SeqCst);
    }

    /// How many answers were lost so far.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.lost.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, server: String, to_lose: Arc<AtomicUsize>, lost: Arc<AtomicUsize>) {
    while let Ok((client, _)) = listener.accept().await {
        let Ok(upstream) = TcpStream::connect(&server).await else {
            continue;
        };
        // Small messages go at once; the two ends would wait for each other otherwise.
        client.set_nodelay(true).unwrap();
        upstream.set_nodelay(true).unwrap();
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = upstream.into_split();
        tokio::spawn(forward(from_client, to_server));
        tokio::spawn(forward_answers(
            from_server,
            to_client,
            Arc::clone(&to_lose),
            Arc::clone(&lost),
        ));
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let _ = tokio::io::copy(&mut from, &mut to).await;
}

/// Forwards message by message: a tag, a length that counts itself, a body.
async fn forward_answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    to_lose: Arc<AtomicUsize>,
    lost: Arc<AtomicUsize>,
) {
    let mut answer = Vec::new();
    let mut ran_a_statement = false;
    loop {
        let mut head = [0u8; 5];
        if from.read_exact(&mut head).await.is_err() {
            return;
        }
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length - 4];
        if from.read_exact(&mut body).await.is_err() {
            return;
        }
        // CommandComplete of what verbs run; the pool's own checks say ROLLBACK and SHOW.
        ran_a_statement |= head[0] == b'C' && (body.starts_with(b"SELECT") || body.starts_with(b"COMMIT"));
        answer.extend_from_slice(&head);
        answer.extend_from_slice(&body);
        let is_ready = head[0] == b'Z';
        // Ready and idle after a statement: whatever was asked is committed.
        if is_ready && body == b"I" && ran_a_statement && take_one(&to_lose) {
            lost.fetch_add(1, Ordering::SeqCst);
            return;
        }
        if is_ready || answer.len() > 8192 || !ran_a_statement {
            ran_a_statement &= !is_ready;
            if to.write_all(&answer).await.is_err() {
                return;
            }
            answer.clear();
        }
    }
}

fn take_one(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
        .is_ok()
}
