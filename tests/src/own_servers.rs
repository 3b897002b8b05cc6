//! Servers of a test's own, to be killed and frozen without disturbing anybody.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use lockgate::postgres::{Database, DatabaseSettings, Migrator};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::cluster::Cluster;
use crate::mailroom::Mailroom;
use crate::topic::Topic;
use crate::{TestDatabase, kafka_brokers};

/// One state directory of `services.sh`, taken down when dropped.
pub struct OwnServers {
    state: PathBuf,
    env: Vec<(String, String)>,
    /// Whether a file system of their own lies under them.
    small_disk: bool,
}

impl OwnServers {
    /// Starts these servers.
    ///
    /// # Panics
    /// One does not come up.
    #[must_use]
    pub fn up(names: &[&str]) -> Self {
        Self::up_with(names, &[])
    }

    /// Starts these servers with variables such as `PG_BIN`.
    ///
    /// # Panics
    /// One does not come up.
    #[must_use]
    pub fn up_with(names: &[&str], env: &[(&str, &str)]) -> Self {
        let servers = Self::at(new_state(), env, false);
        servers.run(&[&["up"], names].concat());
        servers
    }

    /// Starts these servers on a disk of so many MiB; `None` where we may not mount one.
    ///
    /// # Panics
    /// One does not come up.
    #[must_use]
    pub fn up_on_small_disk(names: &[&str], size_mib: u32, env: &[(&str, &str)]) -> Option<Self> {
        let state = new_state();
        std::fs::create_dir(&state).unwrap();
        let options = format!("size={size_mib}m,mode=755");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&state)
            .output();
        if !mount.is_ok_and(|output| output.status.success()) {
            std::fs::remove_dir(&state).unwrap();
            return None;
        }
        let servers = Self::at(state, env, true);
        servers.run(&[&["up"], names].concat());
        Some(servers)
    }

    fn at(state: PathBuf, env: &[(&str, &str)], small_disk: bool) -> Self {
        let env = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Self { state, env, small_disk }
    }

    /// Leaves no byte of the small disk free.
    ///
    /// # Panics
    /// The disk is not a small one.
    pub fn fill_disk(&self) {
        assert!(self.small_disk, "this would fill somebody else's disk");
        let mut ballast = File::create(self.state.join("ballast")).unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            let block = vec![1; size];
            while ballast.write_all(&block).is_ok() {}
        }
    }

    /// Gives back what [`Self::fill_disk`] took.
    pub fn free_disk(&self) {
        std::fs::remove_file(self.state.join("ballast")).unwrap();
    }

    /// Starts servers with this variable from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Does one of `stop`, `start`, `kill`, `freeze`, `thaw` to one of them.
    ///
    /// # Panics
    /// It cannot be done.
    pub fn act(&self, verb: &str, name: &str) {
        self.run(&[verb, name]);
    }

    fn run(&self, arguments: &[&str]) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/dev/services.sh");
        let output = Command::new(script)
            .args(arguments)
            .env("LOCKGATE_SERVICES_DIR", &self.state)
            .envs(self.env.iter().cloned())
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "services.sh {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn address(&self, name: &str) -> Option<String> {
        let printed = self.run(&["env"]);
        let prefix = format!("export {name}=");
        printed
            .lines()
            .find_map(|line| line.strip_prefix(&prefix))
            .map(str::to_owned)
    }

    /// Where their Kafka is.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn brokers(&self) -> String {
        self.address("KAFKA_BROKERS").unwrap()
    }

    /// Email-senders on these servers, which are a Postgres and a Kafka.
    ///
    /// # Panics
    /// One of the two is not among them.
    pub async fn mailroom(&self) -> Mailroom {
        let (url, brokers) = (
            self.address("DATABASE_URL").unwrap(),
            self.address("KAFKA_BROKERS").unwrap(),
        );
        let pool = migrated(&url).await;
        Mailroom::on(&url, pool, Topic::new(&brokers, &[]).await, None)
    }

    /// Replicas on these servers; what is not among them is the shared one.
    pub async fn cluster(&self) -> Cluster {
        let brokers = self
            .address("KAFKA_BROKERS")
            .unwrap_or_else(|| kafka_brokers().to_owned());
        let topic = Topic::new(&brokers, &[]).await;
        let Some(url) = self.address("DATABASE_URL") else {
            return Cluster::on_topic(topic).await;
        };
        let pool = migrated(&url).await;
        Cluster::on(&url, pool, topic, None::<TestDatabase>)
    }
}

async fn migrated(url: &str) -> PgPool {
    let engine = Database::new(&DatabaseSettings::new(url)).unwrap();
    Migrator::new(engine.clone()).up(None).await.unwrap();
    engine.close().await;
    PgPoolOptions::new().max_connections(3).connect_lazy(url).unwrap()
}

fn new_state() -> PathBuf {
    std::env::temp_dir().join(format!("lockgate-own-{}", uuid::Uuid::now_v7().simple()))
}

impl Drop for OwnServers {
    fn drop(&mut self) {
        // A failing test says why by itself; what is left then is in the state directory.
        if !std::thread::panicking() {
            self.run(&["down"]);
        } else {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/dev/services.sh");
            let _ = Command::new(script)
                .arg("down")
                .env("LOCKGATE_SERVICES_DIR", &self.state)
                .output();
        }
        if self.small_disk {
            let _ = Command::new("umount").arg(&self.state).status();
            let _ = std::fs::remove_dir(&self.state);
        }
    }
}
