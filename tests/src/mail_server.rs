//! A mail server that others wrote.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::replica::PATIENCE;
use crate::wait_until;

/// aiosmtpd, writing a maildir.
pub struct MailServer {
    python: String,
    port: u16,
    maildir: PathBuf,
    options: Vec<String>,
    child: Option<Child>,
}

impl MailServer {
    /// One to be started; `None` only where the environment says that PyPI is out of reach; a test that was not run is no test that passed.
    #[must_use]
    pub fn find() -> Option<Self> {
        if std::env::var_os("LOCKGATE_WITHOUT_PYPI").is_some() {
            // Past the test harness, which keeps what a passing test prints to itself.
            let said = "skipped: no e-mail was sent to aiosmtpd, for LOCKGATE_WITHOUT_PYPI is set\n";
            std::io::stderr().write_all(said.as_bytes()).unwrap();
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/dev/aiosmtpd.sh");
        let output = Command::new(script).output().unwrap();
        assert!(
            output.status.success(),
            "there is no mail server to test with; LOCKGATE_WITHOUT_PYPI=1 leaves it out where PyPI is out of reach: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Some(Self {
            python: String::from_utf8(output.stdout).unwrap().trim().to_owned(),
            port: crate::free_port(),
            maildir: std::env::temp_dir().join(format!("lockgate-maildir-{}", uuid::Uuid::new_v4().simple())),
            options: Vec::new(),
            child: None,
        })
    }

    /// With further options of its command line.
    #[must_use]
    pub fn with(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(|option| (*option).to_owned()));
        self
    }

    /// Where it listens on this machine.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it and waits until it listens.
    pub async fn start(&mut self) {
        let address = format!("127.0.0.1:{}", self.port);
        let mut command = Command::new(&self.python);
        command.args([
            "-m",
            "aiosmtpd",
            "-n",
            "-l",
            &address,
            "-c",
            "aiosmtpd.handlers.Mailbox",
        ]);
        command.args(&self.options).arg(&self.maildir).stdin(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        wait_until(PATIENCE, "the mail server listens", async || {
            tokio::net::TcpStream::connect(&address).await.is_ok()
        })
        .await;
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Every mail that it wrote, by Message-ID.
    #[must_use]
    pub fn mails(&self) -> BTreeMap<String, Vec<String>> {
        let mut mails: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for file in std::fs::read_dir(self.maildir.join("new")).into_iter().flatten() {
            let text = std::fs::read_to_string(file.unwrap().path())
                .unwrap()
                .replace("\r\n", "\n");
            mails
                .entry(header(&text, "Message-ID").to_owned())
                .or_default()
                .push(text);
        }
        mails
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.maildir);
    }
}

/// A header of a mail as it was written.
///
/// # Panics
/// It is not there.
#[must_use]
pub fn header<'a>(text: &'a str, name: &str) -> &'a str {
    let head = text.split("\n\n").next().unwrap_or_default();
    let found = head
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    found.unwrap_or_else(|| panic!("no {name} in {head}"))
}
