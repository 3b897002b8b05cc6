//! A fleet started and restarted one by one by `cluster.sh`, in the midst of a run of two million items (RC.6).
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lockgate_tests::cluster::{Cluster, program};
use lockgate_tests::wait_until;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

const ITEMS: i64 = 2_000_000;
const BATCH: f64 = 1_000.0;
/// On a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(900);
const DRAIN: (&str, f64) = ("60s", 60.0);
/// Messages a second at most: a quick machine is not to be through before the last restart.
const PACE: i32 = 20_000;
/// The shortest time over which a rate says something.
const WINDOW: Duration = Duration::from_secs(1);

/// `cluster.sh` with a folder of its own; whatever still runs at the end is ended.
struct Fleet {
    folder: PathBuf,
    settings: Vec<(String, String)>,
}

impl Fleet {
    fn of(cluster: &Cluster) -> Self {
        let folder = std::env::temp_dir().join(format!("lockgate-fleet-{}", uuid::Uuid::new_v4().simple()));
        Self {
            folder,
            settings: cluster.settings().to_vec(),
        }
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/dev/cluster.sh"));
        command.arg(verb).env_clear().envs(self.settings.iter().cloned());
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command
            .env("LOCKGATE_BIN", program())
            .env("LOCKGATE_CLUSTER_DIR", &self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    /// Runs a verb to its end; gives what it said, each line with when it said it.
    async fn does(&self, verb: &str) -> Vec<(Instant, String)> {
        let mut child = self.command(verb).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = Vec::new();
        while let Some(line) = out.next_line().await.unwrap() {
            println!("{line}");
            said.push((Instant::now(), line));
        }
        let status = child.wait().await.unwrap();
        assert!(
            status.success(),
            "cluster.sh {verb}: {status}; the logs are in {}",
            self.folder.display()
        );
        said
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = self.command("down").into_std().stdout(Stdio::null()).status();
    }
}

/// How many batches were done when.
type Samples = Vec<(Instant, i64)>;

/// Items a second in each window that begins between the two, oldest first.
fn rates(samples: &Samples, from: Instant, to: Instant) -> Vec<f64> {
    let within = samples.iter().filter(|(at, _)| (from..to).contains(at));
    let rate = |(at, done): &(Instant, i64)| {
        let (later, more) = samples.iter().find(|(later, _)| *later >= *at + WINDOW)?;
        Some((more - done) as f64 * BATCH / (*later - *at).as_secs_f64())
    };
    within.filter_map(rate).collect()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}

fn drained(line: &str) -> f64 {
    let rest = line.split_once("drained in ").unwrap_or_else(|| panic!("{line}")).1;
    rest.split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_restarted_in_turn_during_two_million_items_lose_nothing() {
    // As in production, with a lease that no busy machine makes end.
    let cluster = Cluster::new()
        .await
        .patient()
        .with("LOCKGATE_KAFKA_WINDOW", "16000")
        .with("LOCKGATE_WORKER_BATCH_SIZE", "1000")
        .with("LOCKGATE_LEASE_DURATION", "60s")
        .with("LOCKGATE_LEASE_RENEW", "20s")
        .with("LOCKGATE_KAFKA_MESSAGE_TIMEOUT", "30s")
        .with("LOCKGATE_DRAIN_DEADLINE", DRAIN.0);
    let fleet = Fleet::of(&cluster);
    assert_eq!(fleet.does("3").await.len(), 3);
    let params = json!({"items": ITEMS});
    let run = cluster.start_paced("chaos-items", params, Some(PACE)).await;
    let started = Instant::now();
    wait_until(PATIENCE, "a tenth is done", async || {
        cluster.batches_done(run).await >= 200
    })
    .await;
    let samples: Arc<Mutex<Samples>> = Arc::default();
    let sampling = async {
        while cluster.status(run).await != "completed" {
            let done = cluster.batches_done(run).await;
            samples.lock().unwrap().push((Instant::now(), done));
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert!(started.elapsed() < PATIENCE, "{}", cluster.diagnosis(run).await);
        }
    };
    let undisturbed = Instant::now();
    let restarting = async {
        wait_until(PATIENCE, "the pace is known", async || {
            samples.lock().unwrap().len() > 10
        })
        .await;
        let from = Instant::now();
        let said = fleet.does("restart").await;
        let unfinished = cluster.status(run).await != "completed";
        (from, said, unfinished)
    };
    let ((), (from, said, unfinished)) = tokio::join!(sampling, restarting);
    assert!(unfinished, "over before the last restart: use more items");
    assert_eq!(said.len(), 3, "{said:?}");
    let samples = samples.lock().unwrap().clone();
    let usual = median(rates(&samples, undisturbed, Instant::now()));
    let mut begun = from;
    for (at, line) in &said {
        let slowest = rates(&samples, begun, *at).into_iter().fold(f64::INFINITY, f64::min);
        println!("{line}: at worst {slowest:.0} items/s of {usual:.0} usually");
        assert!(drained(line) <= DRAIN.1 + lockgate::cli::GRACE.as_secs_f64(), "{line}");
        begun = *at;
    }
    let found = cluster.completes(run).await;
    println!("{ITEMS} items in {:.1} s: {found}", started.elapsed().as_secs_f64());
    assert_eq!(
        (found.duplicates, found.recovered, found.fates["delivered"]),
        (0, 0, ITEMS as usize),
        "{found}"
    );
    fleet.does("down").await;
}
