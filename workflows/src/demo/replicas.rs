//! Replicas as processes of their own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

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
    pub(super) async fn stop(self) {
        for (child, _) in &self.children {
            if let Some(pid) = child.id() {
                let _ = Command::new("kill").arg("-TERM").arg(pid.to_string()).status().await;
            }
        }
        for (mut child, log) in self.children {
            match tokio::time::timeout(PATIENCE, child.wait()).await {
                Ok(Ok(status)) if status.success() => {}
                ended => eprintln!(
                    "a replica did not stop in good order ({ended:?}); see {}",
                    log.display()
                ),
            }
        }
    }

    /// Lets them run on after us.
    pub(super) fn leave(self) {
        // Dropping a child neither ends nor waits for it.
    }
}
