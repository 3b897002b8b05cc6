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
use lockgate::health::Health;
use lockgate::postgres::{Database, DatabaseSettings};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::meters::own_seconds;
use super::place::Place;

const TOKEN: &str = "the token of the benchmark";
/// Different lines; they are sent again and again.
const LINES: usize = 10_000;
/// Commands whose making alone is measured.
const MADE: usize = 100_000;

/// What to measure.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// A server on which the benchmark may make a database.
    pub database_url: String,
    /// The brokers.
    pub brokers: String,
    /// Commands of a round.
    pub commands: usize,
    /// Rounds; the figures are their medians.
    pub rounds: usize,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct HttpReport {
    /// Commands a second that were acknowledged or stored, and answered.
    pub http_per_s: f64,
    /// Through the orchestrator into Kafka.
    pub real: HttpSample,
    /// Through a door that takes everything at once: what HTTP itself costs.
    pub open_door: HttpSample,
}

/// One door.
#[derive(Debug, Clone, Serialize)]
pub struct HttpSample {
    /// Commands accepted a second, the median of the rounds.
    pub per_s: f64,
    /// Commands of a round.
    pub commands: usize,
    /// Bytes of a line.
    pub bytes_per_command: usize,
    /// Every round.
    pub rounds: Vec<f64>,
    /// Processor time of client and server together, without the brokers'.
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
        let mut text = String::new();
        for (name, sample) in [("into Kafka", &self.real), ("an open door", &self.open_door)] {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "HTTP, one client, one connection, {name}: {:.0} commands/s, {:.2} us of processor time each, {:.2} of \
                 them to make it; {}",
                sample.per_s, sample.cpu_us_per_command, sample.make_us_per_command, sample.bound
            );
        }
        text
    }
}

/// A door that takes everything at once: what is left is the cost of HTTP.
#[derive(Debug, Default)]
struct OpenDoor;

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

/// Sends commands as lines through both doors, telling `progress` where it is.
///
/// # Errors
/// No server can be started, or a command was not accepted.
pub async fn http(settings: &HttpSettings, progress: &(dyn Fn(&str) + Send + Sync)) -> anyhow::Result<HttpReport> {
    let place = Place::make(&settings.database_url, &settings.brokers).await?;
    let topic = place.make_topic().await?;
    progress("commands over HTTP");
    let orchestrator = lockgate::orchestrator(&place.config(&topic), None)?;
    let real = sample(Arc::new(orchestrator.clone()), settings).await;
    let stopped = orchestrator.stop(Duration::from_secs(60)).await;
    place.remove_topic(&topic).await?;
    place.remove().await?;
    anyhow::ensure!(stopped.unplaced == 0, "{} commands were not placed", stopped.unplaced);
    let real = real?;
    progress(&format!("into Kafka: {:.0}/s", real.per_s));
    let open_door = sample(Arc::new(OpenDoor), settings).await?;
    Ok(HttpReport {
        http_per_s: real.per_s,
        real,
        open_door,
    })
}

async fn sample(door: Arc<dyn CommandDoor>, settings: &HttpSettings) -> anyhow::Result<HttpSample> {
    let (commands, rounds) = (settings.commands, settings.rounds);
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
    Ok(HttpSample {
        per_s: sorted.get(sorted.len() / 2).copied().unwrap_or_default(),
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
                "{:.0} in 100 of the {processors} processors were had: the door, the brokers or somebody else had the others",
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
        health: Health::default(),
        settings: ApiSettings {
            connections: 16,
            requests_per_s: 1000,
            bulk_requests: 4,
            drain: Duration::from_secs(5),
            ..ApiSettings::default()
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
