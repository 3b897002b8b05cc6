//! The commands of docs/tutorial.md, from top to bottom, on servers of their own; only cargo is played, since the program
//! is compiled with the tests.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use lockgate_tests::tutorial::{blocks, page, root};
use uuid::Uuid;

/// Makes what cargo would: a crate's folder, and the binaries where cargo leaves them.
const CARGO: &str = r#"#!/usr/bin/env bash
set -eu
case "$1 ${3-} ${4-}" in
  "new invitations ") mkdir -p invitations/src ;;
  "add "*) ;;
  "build -p lockgate-workflows") mkdir -p target/debug && ln -sf "$BUILT/lockgate" target/debug/lockgate ;;
  "build  ") mkdir -p target/debug && ln -sf "$BUILT/lockgate-tutorial" target/debug/invitations ;;
  *) echo "no such call of cargo is played: $*" >&2; exit 1 ;;
esac
"#;

/// A folder that looks like the parent of a clone, and is removed with what runs in it.
struct Clone(PathBuf);

impl Clone {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("lockgate-tutorial-{}", Uuid::new_v4().simple()));
        std::fs::create_dir_all(folder.join("lockgate")).unwrap();
        for part in ["ops", "engine"] {
            let there = root().canonicalize().unwrap().join(part);
            symlink(there, folder.join("lockgate").join(part)).unwrap();
        }
        std::fs::create_dir(folder.join("bin")).unwrap();
        let cargo = folder.join("bin/cargo");
        std::fs::write(&cargo, CARGO).unwrap();
        std::fs::set_permissions(&cargo, PermissionsExt::from_mode(0o755)).unwrap();
        Self(folder)
    }

    fn bash(&self, script: &str) -> std::process::Output {
        let path = format!("{}:{}", self.0.join("bin").display(), std::env::var("PATH").unwrap());
        Command::new("bash")
            .args(["-euo", "pipefail", "-c", script])
            .current_dir(self.0.join("lockgate"))
            .env("PATH", path)
            .env("BUILT", built())
            .env("LOCKGATE_SERVICES_DIR", self.0.join("services"))
            .env("NO_COLOR", "1")
            .env_remove("DATABASE_URL")
            .env_remove("KAFKA_BROKERS")
            .output()
            .unwrap()
    }
}

impl Drop for Clone {
    fn drop(&mut self) {
        // Also after a failure: replicas end with their servers gone, and these go by the script that started them.
        self.bash("for pid in $(jobs -p); do kill -9 \"$pid\"; done; ops/dev/services.sh down");
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Where cargo has left the binaries.
fn built() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().to_owned()
}

#[test]
fn every_command_of_the_tutorial_does_what_it_says() {
    let clone = Clone::new();
    let commands = blocks(&page(), "sh");
    assert!(commands.len() >= 9, "{} blocks", commands.len());
    // Whatever is left of it when a command fails ends with the shell.
    let script = format!(
        "trap 'kill -9 $(jobs -p) 2>/dev/null || true' EXIT\nset -x\n{}",
        commands.concat()
    );
    let output = clone.bash(&script);
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let said = |log: &str| std::fs::read_to_string(clone.0.join("invitations").join(log)).unwrap_or_default();
    let logs = ["first.log", "second.log"].map(said).join("\n");
    assert!(
        output.status.success(),
        "{out}\n--- stderr\n{err}\n--- replicas\n{logs}"
    );
    for expected in ["summer party", "50000"] {
        assert!(out.contains(expected), "{expected} is not in:\n{out}");
    }
}
