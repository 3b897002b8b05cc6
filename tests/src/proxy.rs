//! A way to Postgres that can fail at one statement: its request never arrives, its answer never comes back, or it is slow;
//! or that goes silent as a whole.

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Which way a statement fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// The connection is cut instead of forwarding it: the server never hears of it.
    Request,
    /// The connection is cut instead of forwarding its answer: it is done, and the asker never hears so.
    Reply,
    /// It arrives this much later.
    Slow(Duration),
}

#[derive(Debug)]
struct Rule {
    text: String,
    failure: Failure,
    left: usize,
}

#[derive(Debug, Default)]
struct Rules {
    armed: Vec<Rule>,
    cut: usize,
    /// How often all connections went silent that there were.
    silences: usize,
}

impl Rules {
    fn is_silent(rules: &Mutex<Self>, since: usize) -> bool {
        rules.lock().unwrap().silences > since
    }
}

/// Forwards to a server until told otherwise.
pub struct Proxy {
    url: String,
    rules: Arc<Mutex<Rules>>,
}

impl Proxy {
    /// Listens in front of the server of this URL.
    ///
    /// # Panics
    /// The URL names no host and port.
    pub async fn before(url: &str) -> Self {
        let (before_host, rest) = url.rsplit_once('@').unwrap();
        let (server, database) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let rules = Arc::new(Mutex::new(Rules::default()));
        tokio::spawn(accept(listener, server.to_owned(), rules.clone()));
        // Nothing can be read in what is encrypted.
        let url = format!("{before_host}@127.0.0.1:{port}/{database}?sslmode=disable");
        Self { url, rules }
    }

    /// The URL that leads through here.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Loses the next so many statements that contain this text.
    pub fn lose_request(&self, text: &str, times: usize) {
        self.arm(text, Failure::Request, times);
    }

    /// Loses the answers to the next so many statements that contain this text.
    pub fn lose_reply(&self, text: &str, times: usize) {
        self.arm(text, Failure::Reply, times);
    }

    /// Holds the next so many statements that contain this text for a time.
    pub fn slow_down(&self, text: &str, time: Duration, times: usize) {
        self.arm(text, Failure::Slow(time), times);
    }

    /// Nothing more goes through the connections that there are, either way, and nobody hears that they are dead: as when a
    /// node vanishes and its address moves on. New ones are as before.
    pub fn silence(&self) {
        self.rules.lock().unwrap().silences += 1;
    }

    fn arm(&self, text: &str, failure: Failure, left: usize) {
        let rule = Rule {
            text: text.to_owned(),
            failure,
            left,
        };
        self.rules.lock().unwrap().armed.push(rule);
    }

    /// How often a connection was cut.
    #[must_use]
    pub fn cut(&self) -> usize {
        self.rules.lock().unwrap().cut
    }
}

async fn accept(listener: TcpListener, server: String, rules: Arc<Mutex<Rules>>) {
    while let Ok((client, _)) = listener.accept().await {
        let Ok(upstream) = TcpStream::connect(&server).await else {
            continue;
        };
        // Small messages go at once; the two ends would wait for each other otherwise.
        client.set_nodelay(true).unwrap();
        upstream.set_nodelay(true).unwrap();
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = upstream.into_split();
        let cut = CancellationToken::new();
        // Set while the answer of a doomed statement is awaited.
        let doomed = Arc::new(Mutex::new(false));
        let since = rules.lock().unwrap().silences;
        let requests = Requests {
            since,
            rules: rules.clone(),
            doomed: doomed.clone(),
            statements: HashMap::new(),
        };
        tokio::spawn(run_until(cut.clone(), requests.forward(from_client, to_server)));
        tokio::spawn(run_until(
            cut,
            forward_answers(from_server, to_client, doomed, (rules.clone(), since)),
        ));
    }
}

/// When one direction ends the other does too, and both sockets close.
async fn run_until(cut: CancellationToken, work: impl Future<Output = Option<()>>) {
    tokio::select! {
        _ = work => cut.cancel(),
        () = cut.cancelled() => {}
    }
}

/// A message: a tag, a length that counts itself, a body.
async fn read_message(from: &mut (impl AsyncRead + Unpin)) -> Option<(u8, Vec<u8>)> {
    let mut head = [0u8; 5];
    from.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    let mut message = head.to_vec();
    message.resize(length + 1, 0);
    from.read_exact(&mut message[5..]).await.ok()?;
    Some((head[0], message))
}

/// What a client asks, with the statements it has prepared by their names.
struct Requests {
    /// Silences before it.
    since: usize,
    rules: Arc<Mutex<Rules>>,
    doomed: Arc<Mutex<bool>>,
    statements: HashMap<Vec<u8>, Vec<u8>>,
}

impl Requests {
    async fn forward(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> Option<()> {
        // The first message has no tag.
        let length = from.read_u32().await.ok()?;
        let mut startup = length.to_be_bytes().to_vec();
        startup.resize(length as usize, 0);
        from.read_exact(&mut startup[4..]).await.ok()?;
        to.write_all(&startup).await.ok()?;
        loop {
            let (tag, message) = read_message(&mut from).await?;
            if Rules::is_silent(&self.rules, self.since) {
                // The socket stays open.
                return pending().await;
            }
            match self.fate(tag, &message[5..]) {
                Some(Failure::Request) => return None,
                Some(Failure::Reply) => *self.doomed.lock().unwrap() = true,
                Some(Failure::Slow(time)) => tokio::time::sleep(time).await,
                None => {}
            }
            to.write_all(&message).await.ok()?;
        }
    }

    /// Judged when a statement is run, not when it is prepared.
    fn fate(&mut self, tag: u8, body: &[u8]) -> Option<Failure> {
        let mut parts = body.split(|byte| *byte == 0);
        let (first, second) = (parts.next()?.to_vec(), parts.next().unwrap_or_default().to_vec());
        let text = match tag {
            b'Q' => first,
            b'P' => {
                self.statements.insert(first, second);
                return None;
            }
            b'B' => self.statements.get(&second)?.clone(),
            _ => return None,
        };
        let text = String::from_utf8_lossy(&text);
        let mut rules = self.rules.lock().unwrap();
        let rule = rules
            .armed
            .iter_mut()
            .find(|rule| rule.left > 0 && text.contains(&rule.text))?;
        rule.left -= 1;
        let failure = rule.failure;
        rules.cut += usize::from(failure == Failure::Request);
        Some(failure)
    }
}

async fn forward_answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    doomed: Arc<Mutex<bool>>,
    (rules, since): (Arc<Mutex<Rules>>, usize),
) -> Option<()> {
    loop {
        let (tag, message) = read_message(&mut from).await?;
        if Rules::is_silent(&rules, since) {
            return pending().await;
        }
        if *doomed.lock().unwrap() {
            // Ready again: what was asked is done, and committed unless a transaction is open.
            if tag == b'Z' {
                rules.lock().unwrap().cut += 1;
                return None;
            }
            continue;
        }
        to.write_all(&message).await.ok()?;
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection, Executor, PgConnection};

    use super::*;
    use crate::TestDatabase;

    #[tokio::test]
    async fn a_lost_request_does_nothing_and_a_lost_reply_hides_what_was_done() {
        let database = TestDatabase::empty().await;
        database.pool().execute("create table t (n int)").await.unwrap();
        let proxy = Proxy::before(database.url()).await;
        let count = async || -> i64 {
            sqlx::query_scalar("select count(*) from t")
                .fetch_one(database.pool())
                .await
                .unwrap()
        };
        for (lose_reply, rows) in [(false, 1), (true, 3)] {
            let mut connection = PgConnection::connect(proxy.url()).await.unwrap();
            let insert = "insert into t values ($1)";
            sqlx::query(insert).bind(1).execute(&mut connection).await.unwrap();
            if lose_reply {
                proxy.lose_reply("into t", 1)
            } else {
                proxy.lose_request("into t", 1)
            }
            assert!(sqlx::query(insert).bind(2).execute(&mut connection).await.is_err());
            assert_eq!(count().await, rows);
        }
        assert_eq!(proxy.cut(), 2);
    }
}
