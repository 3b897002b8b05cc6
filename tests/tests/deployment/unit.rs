//! The unit of systemd.

use std::collections::BTreeMap;

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
