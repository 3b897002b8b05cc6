//! The unit of systemd.

use std::collections::BTreeMap;
use std::process::Command;

use lockgate_tests::skipped;

use crate::files::{stopping, text};
use crate::{image, names};

const FILE: &str = "ops/systemd/lockgate.service";

/// Section and key to the values in their order.
fn settings() -> BTreeMap<String, Vec<String>> {
    let mut section = String::new();
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text(FILE)
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{line}"));
        all.entry(format!("{section}.{key}"))
            .or_default()
            .push(value.to_owned());
    }
    all
}

#[test]
fn it_waits_for_the_drain_and_sets_what_is_read() {
    let settings = settings();
    let env: BTreeMap<String, String> = settings["Service.Environment"]
        .iter()
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    names::hold(FILE, &env);
    let wait: u64 = settings["Service.TimeoutStopSec"][0].parse().unwrap();
    assert!(
        wait >= stopping(&env["LOCKGATE_DRAIN_DEADLINE"]),
        "killed after {wait} s"
    );
    assert_eq!(settings["Service.KillSignal"], ["SIGTERM"]);
    let start: Vec<&str> = settings["Service.ExecStart"][0].split(' ').collect();
    assert_eq!((start[0], &start[1..]), (image::entrypoint()[0].as_str(), &["run"][..]));
    // A secret that it points at is one that systemd hands over.
    let credential = env["DATABASE_URL_FILE"].strip_prefix("%d/").unwrap();
    assert!(settings["Service.LoadCredential"][0].starts_with(&format!("{credential}:")));
    for guard in ["NoNewPrivileges", "ProtectHome", "PrivateTmp", "DynamicUser"] {
        assert_eq!(settings[&format!("Service.{guard}")], ["yes"], "{guard}");
    }
    assert_eq!(settings["Service.ProtectSystem"], ["strict"]);
}

#[test]
fn systemd_understands_it() {
    // The program is not installed where the tests run.
    let program = lockgate_tests::cluster::program();
    let unit = text(FILE).replace("/usr/local/bin/lockgate", program.to_str().unwrap());
    let folder = std::env::temp_dir().join(format!("lockgate-unit-{}", uuid::Uuid::new_v4().simple()));
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("lockgate.service");
    std::fs::write(&file, unit).unwrap();
    let verified = Command::new("systemd-analyze").arg("verify").arg(&file).output();
    std::fs::remove_dir_all(folder).unwrap();
    match verified {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.is_empty(), "{said}");
        }
        Err(_) => skipped("systemd-analyze is not here to look at the unit"),
    }
}
