//! Runs a real binary as its users do: arguments, environment, stdout, stderr, exit code.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::replica::signal;

/// A binary with an environment of its own: nothing of the test's environment gets in.
#[derive(Clone)]
pub struct Program {
    path: String,
    env: Vec<(String, String)>,
}

/// How a run of it ended.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// What it printed as data.
    pub out: String,
    /// What it said.
    pub err: String,
}

impl Program {
    /// A binary and the database it uses.
    #[must_use]
    pub fn new(path: &str, database_url: &str) -> Self {
        Self::without_database(path).env("DATABASE_URL", database_url)
    }

    /// A binary without a database.
    #[must_use]
    pub fn without_database(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            env: Vec::new(),
        }
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(args).env_clear().envs(self.env.iter().cloned());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // A test that fails must not leave a replica behind.
        command.kill_on_drop(true);
        command
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// It cannot be run.
    pub async fn run(&self, args: &[&str]) -> Finished {
        let output = self.command(args).output().await.unwrap();
        Finished {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts it.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start(&self, args: &[&str]) -> Running {
        let mut child = self.command(args).spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap()).lines();
        Running { child, said }
    }
}

/// A binary that runs.
pub struct Running {
    child: Child,
    said: Lines<BufReader<ChildStderr>>,
}

impl Running {
    /// Reads stderr until a line holds this text; gives all lines up to it.
    ///
    /// # Panics
    /// It ended without saying so.
    pub async fn says(&mut self, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.said.next_line().await.unwrap() {
            lines.push(line.clone());
            if line.contains(text) {
                return lines;
            }
        }
        panic!("it ended without saying {text:?}: {lines:?}");
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// It is gone already.
    pub fn signal(&self, name: Signal) {
        signal(self.child.id().unwrap(), name);
    }

    /// Waits for its end; gives the exit code and what it still said.
    ///
    /// # Panics
    /// It cannot be waited for.
    pub async fn ended(mut self) -> (i32, Vec<String>) {
        let mut lines = Vec::new();
        while let Some(line) = self.said.next_line().await.unwrap() {
            lines.push(line);
        }
        (self.child.wait().await.unwrap().code().unwrap_or(-1), lines)
    }
}

impl Finished {
    /// Holds it to an exit code.
    ///
    /// # Panics
    /// It ended otherwise.
    #[track_caller]
    #[allow(clippy::must_use_candidate, reason = "the assertion may be all that a test wants")]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    /// Holds it to texts on stderr.
    ///
    /// # Panics
    /// One is not there.
    #[track_caller]
    pub fn says(&self, texts: &[&str]) {
        for text in texts {
            assert!(self.err.contains(text), "no {text:?} on stderr: {}", self.err);
        }
    }

    /// Its data as JSON.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {} {}", self.out, self.err))
    }
}
