//! Replicas as processes of their own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::processes::ask_to_end;

/// A replica drains within its own deadline; this is when we stop believing it.
const PATIENCE: Duration = Duration::from_secs(40);

pub(super) struct Replicas {
    children: Vec<(Child, PathBuf)>,
}

impl Replicas {
    pub(super) fn start(count: usize, environment: &[(String, String)], logs: &Path) -> std::io::Result<Self> {
        let mut children = Vec::new();
        for number in 1..=count {
            let log = logs.join(format!("replica-{number}.log"));
            let file = File::create(&log)?;
            let child = Command::new(std::env::current_exe()?)
                .arg("run")
                .envs(environment.iter().cloned())
                .stdin(Stdio::null())
                .stdout(file.try_clone()?)
                .stderr(file)
                .spawn()?;
            children.push((child, log));
        }
        Ok(Self { children })
    }

    pub(super) fn describe(&self) -> String {
        let each = self
            .children
            .iter()
            .map(|(child, log)| format!("pid {} (log {})", child.id().unwrap_or_default(), log.display()));
        each.collect::<Vec<_>>().join(", ")
    }

    /// Asks all of them to drain, and waits.
    ///
    /// # Errors
    /// One could not be asked, took too long, or ended with something it complained of.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        let asked = self.children.iter().map(|(child, _)| ask_to_end(child));
        let mut broken: Vec<_> = asked
            .filter_map(|asked| Some(format!("one could not be asked: {}", asked.err()?)))
            .collect();
        for (mut child, log) in self.children {
            let why = match tokio::time::timeout(PATIENCE, child.wait()).await {
                Ok(Ok(status)) if status.success() => continue,
                Ok(Ok(status)) => status.to_string(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("still there after {} s", PATIENCE.as_secs()),
            };
            broken.push(format!("{why}, see {}", log.display()));
        }
        anyhow::ensure!(
            broken.is_empty(),
            "replicas did not stop in good order: {}",
            broken.join("; ")
        );
        Ok(())
    }

    /// Lets them run on after us.
    pub(super) fn leave(self) {
        // Dropping a child neither ends nor waits for it.
    }
}
