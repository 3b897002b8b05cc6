//! The HTTP API: one client that sends commands as lines over one connection of the loopback.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_trait::async_trait;
use lockgate::api::{ApiParts, ApiServer, ApiSettings};
use lockgate::config::Secret;
use lockgate::delivery::{CommandDoor, EmailCommandRequest, HandedOver, KeyHash, ReadyCommand, Topics};
use lockgate::postgres::{Database, DatabaseSettings};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::meters::own_seconds;

const TOKEN: &str = "the token of the benchmark";
/// Different lines; they are sent again and again.
const LINES: usize = 10_000;
/// Commands whose making alone is measured.
const MADE: usize = 100_000;

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct HttpReport {
    /// Commands accepted a second, the median of the rounds.
    pub http_per_s: f64,
    /// Commands of a round.
    pub commands: usize,
    /// Bytes of a line.
    pub bytes_per_command: usize,
    /// Every round.
    pub rounds: Vec<f64>,
    /// Processor time of client and server together.
    pub cpu_us_per_command: f64,
    /// Of that, to read, check and make one command, by one thread alone.
    pub make_us_per_command: f64,
    /// Share of all processors that the process had.
    pub processors_used: f64,
    /// What bounds it.
    pub bound: String,
}

impl HttpReport {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "{:.0} commands/s over HTTP, one client, one connection\n",
            self.http_per_s
        );
        let _ = writeln!(
            text,
            "{:.2} µs of processor time a command, {:.2} of them to make it; {}",
            self.cpu_us_per_command, self.make_us_per_command, self.bound
        );
        text
    }
}

/// A door that takes everything at once: what is left is the cost of HTTP.
#[derive(Debug, Default)]
pub struct OpenDoor;

#[async_trait]
impl CommandDoor for OpenDoor {
    async fn hand_over(&self, commands: Vec<ReadyCommand>) -> Vec<HandedOver> {
        let delivered = HandedOver::Delivered {
            partition: 0,
            offset: 0,
        };
        vec![delivered; commands.len()]
    }
}

/// Sends so many commands in each round to a server with this door, and waits until each is answered.
///
/// # Errors
/// No server can be started, or a command was not accepted.
pub async fn http(door: Arc<dyn CommandDoor>, commands: usize, rounds: usize) -> anyhow::Result<HttpReport> {
    let stop = CancellationToken::new();
    let server = ApiServer::bind("127.0.0.1:0", parts(door)?, stop.clone()).await?;
    let address = server.address()?;
    let served = tokio::spawn(server.serve());
    let lines: Arc<[String]> = (0..LINES).map(line).collect();
    let bytes_per_command = lines.iter().map(String::len).sum::<usize>() / LINES;
    // The first round warms up and is not counted.
    round(address, &lines, commands / 10).await?;
    let (mut found, mut cpu, mut wall) = (Vec::new(), 0.0, 0.0);
    for _ in 0..rounds {
        let (before, began) = (own_seconds(), Instant::now());
        round(address, &lines, commands).await?;
        let took = began.elapsed().as_secs_f64();
        cpu += own_seconds() - before;
        wall += took;
        found.push(commands as f64 / took);
    }
    stop.cancel();
    anyhow::ensure!(served.await?, "the server did not end");
    let mut sorted = found.clone();
    sorted.sort_by(f64::total_cmp);
    let processors = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let used = cpu / wall / processors;
    Ok(HttpReport {
        http_per_s: sorted.get(sorted.len() / 2).copied().unwrap_or_default(),
        commands,
        bytes_per_command,
        rounds: found,
        cpu_us_per_command: cpu * 1e6 / (commands * rounds) as f64,
        make_us_per_command: make(&lines)?,
        processors_used: used,
        bound: if used > 0.85 {
            format!("bound by the {processors} processors, which the client shares")
        } else {
            format!(
                "{:.0} in 100 of the {processors} processors were had: bound by the door, or by whoever had the others",
                used * 100.0
            )
        },
    })
}

fn parts(door: Arc<dyn CommandDoor>) -> anyhow::Result<ApiParts> {
    Ok(ApiParts {
        door,
        topics: topics(),
        key_hash: KeyHash::with_secret(b"the secret of the benchmark"),
        // The token is a configured one: nothing here asks the database.
        database: Database::new(&DatabaseSettings::new("postgres://nobody@127.0.0.1:9/nothing"))?,
        registry: None,
        token: Some(Secret::new(TOKEN)),
        settings: ApiSettings {
            connections: 16,
            requests_per_s: 1000,
            bulk_requests: 4,
            drain: Duration::from_secs(5),
        },
    })
}

fn topics() -> Topics {
    Topics::new(&[("email".to_owned(), "email_commands".to_owned())].into())
}

/// As a registration would send it; the address is hashed for the key, which costs most.
fn line(number: usize) -> String {
    format!(
        r#"{{"recipientEmail":"user-{number}@example.org","templateId":"welcome","templateContext":{{"name":"User {number}","plan":"basic"}},"locale":"pt-BR","correlationId":"registration-{number}","idempotencyKey":"welcome-{number}"}}"#
    ) + "\n"
}

/// One bulk request, sent and read at the same time.
async fn round(address: SocketAddr, lines: &Arc<[String]>, commands: usize) -> anyhow::Result<()> {
    let (read, mut write) = TcpStream::connect(address).await?.into_split();
    let lines = lines.clone();
    let sent = tokio::spawn(async move {
        let length: usize = (0..commands).map(|number| lines[number % LINES].len()).sum();
        // HTTP/1.0: the answer ends with the connection, in one piece.
        let head = format!(
            "POST /api/v1/email-commands HTTP/1.0\r\nauthorization: Bearer {TOKEN}\r\ncontent-type: application/x-ndjson\r\n\
             content-length: {length}\r\n\r\n"
        );
        write.write_all(head.as_bytes()).await?;
        let whole = lines.concat();
        for _ in 0..commands / LINES {
            write.write_all(whole.as_bytes()).await?;
        }
        write.write_all(lines[..commands % LINES].concat().as_bytes()).await?;
        // Kept open until all is answered.
        anyhow::Ok(write)
    });
    let accepted = accepted(read).await?;
    let _write = sent.await?.context("the commands were not all sent")?;
    anyhow::ensure!(accepted == commands, "{accepted} of {commands} commands were accepted");
    Ok(())
}

async fn accepted(read: impl AsyncRead + Unpin) -> anyhow::Result<usize> {
    let (mut read, mut line, mut accepted) = (BufReader::with_capacity(256 << 10, read), Vec::new(), 0);
    loop {
        line.clear();
        if read.read_until(b'\n', &mut line).await? == 0 {
            return Ok(accepted);
        }
        // `{"line":N,"status":202,…`
        let status = line.split(|byte| *byte == b',').nth(1);
        accepted += usize::from(status == Some(b"\"status\":202".as_slice()));
    }
}

/// Microseconds to read, check and make one command, by one thread.
fn make(lines: &[String]) -> anyhow::Result<f64> {
    let (topics, hash) = (topics(), KeyHash::with_secret(b"the secret of the benchmark"));
    let began = own_seconds();
    for number in 0..MADE {
        let request = EmailCommandRequest::read(lines[number % LINES].as_bytes())?;
        std::hint::black_box(request.into_direct(None)?.into_ready(&topics, &hash)?);
    }
    Ok((own_seconds() - began) * 1e6 / MADE as f64)
}
