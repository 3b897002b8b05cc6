//! A replica as a process of its own, which tests kill, freeze and ask to stop.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use uuid::Uuid;

use crate::wait_until;

/// Far above what anything here takes on an idle machine, for one that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// Lines of a log that a failing test shows.
const SHOWN_LINES: usize = 60;

/// Replicas that were ended at once: what each had in flight, and no more, may be sent again.
pub(crate) type Killed = Arc<Mutex<Vec<Uuid>>>;

/// Sends a process a signal.
///
/// # Panics
/// It is gone already.
pub fn signal(pid: u32, signal: Signal) {
    let process = Pid::from_raw(pid.cast_signed()).unwrap();
    kill_process(process, signal).unwrap_or_else(|error| panic!("{pid} was not sent {signal:?}: {error}"));
}

/// A running `lockgate run`.
pub struct Replica {
    child: Child,
    log: PathBuf,
    killed: Killed,
}

impl Replica {
    /// Starts a program with nothing but this environment; it writes to `log`.
    pub(crate) fn start(program: &Path, args: &[&str], env: &[(String, String)], log: PathBuf, killed: Killed) -> Self {
        let file = File::create(&log).unwrap();
        let child = Command::new(program)
            .args(args)
            .env_clear()
            .envs(env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be run: {error}", program.display()));
        Self { child, log, killed }
    }

    /// Starts a replica that has no servers and waits for them: it tells of itself all the same.
    ///
    /// # Panics
    /// The program cannot be run.
    #[must_use]
    pub fn without_servers(env: &[(&str, &str)]) -> Self {
        let log = std::env::temp_dir().join(format!("lockgate-waiting-{}.log", Uuid::new_v4().simple()));
        let away = [
            ("DATABASE_URL", "postgres://127.0.0.1:1/none"),
            ("KAFKA_BROKERS", "127.0.0.1:1"),
            ("NO_COLOR", "1"),
        ];
        let all = away.iter().chain(env);
        let all: Vec<_> = all
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Self::start(&crate::cluster::program(), &["run"], &all, log, Killed::default())
    }

    /// All that it has said.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until it says this.
    ///
    /// # Panics
    /// It ends, or a long time passes, without that.
    pub async fn says(&mut self, text: &str) {
        let what = format!("the replica says {text:?}");
        let mut over = false;
        wait_until(PATIENCE, &what, async || {
            if self.log().contains(text) {
                return true;
            }
            assert!(!over, "it ended before {what}");
            over = self.child.try_wait().unwrap().is_some();
            false
        })
        .await;
    }

    /// Waits until it says that it listens, in these words; gives the address.
    ///
    /// # Panics
    /// It does not say, or names none.
    pub async fn listens(&mut self, text: &str) -> String {
        self.says(text).await;
        let log = self.log();
        let line = log.lines().find(|line| line.contains(text)).unwrap();
        let address = line.split("address=").nth(1).unwrap();
        address.split_whitespace().next().unwrap().to_owned()
    }

    /// Waits until its HTTP API listens; gives the address.
    ///
    /// # Panics
    /// It does not say.
    pub async fn api(&mut self) -> String {
        self.listens("the HTTP API listens").await
    }

    /// Waits until it runs; gives its id.
    pub async fn runs(&mut self) -> Uuid {
        self.says("replica started").await;
        self.id().unwrap()
    }

    /// The id it gave itself, once it runs.
    #[must_use]
    pub fn id(&self) -> Option<Uuid> {
        let log = self.log();
        let line = log.lines().find(|line| line.contains("replica started"))?;
        line.split("replica=").nth(1)?.get(..36)?.parse().ok()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.killed.lock().unwrap().extend(self.id());
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops all its threads where they are.
    pub fn freeze(&self) {
        signal(self.pid(), Signal::STOP);
    }

    /// Lets them go on.
    pub fn thaw(&self) {
        signal(self.pid(), Signal::CONT);
    }

    /// Asks it to stop in good order.
    pub fn terminate(&self) {
        signal(self.pid(), Signal::TERM);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It goes on.
    pub async fn ends(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until(PATIENCE, "the replica ends", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    /// Waits until it dies at the crash point that it was started with.
    ///
    /// # Panics
    /// It ends otherwise, or not at all: the point was not reached.
    pub async fn crashes(&mut self) {
        let status = self.ends().await;
        self.killed.lock().unwrap().extend(self.id());
        let aborted = status.signal() == Some(6);
        assert!(
            aborted && self.log().contains("crash point"),
            "it did not crash, it ended with {status}"
        );
    }

    /// Is it still there?
    #[must_use]
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // Also when it is frozen; it may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(SHOWN_LINES);
            eprintln!(
                "--- {} (its last lines)\n{}",
                self.log.display(),
                lines[from..].join("\n")
            );
        }
    }
}
