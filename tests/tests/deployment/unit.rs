//! The units of systemd.

use std::collections::BTreeMap;
use std::process::Command;

use lockgate_tests::skipped;

use crate::files::{path, stopping, stopping_sender, text};
use crate::{image, names};

const FOLDER: &str = "ops/systemd";
const REPLICA: &str = "lockgate.service";
const SENDER: &str = "lockgate-email-sender.service";
/// Each with what it starts.
const UNITS: [(&str, &str); 2] = [
    (REPLICA, "/usr/local/bin/lockgate run"),
    (SENDER, "/usr/local/bin/email-sender"),
];

type Settings = BTreeMap<String, Vec<String>>;

/// Section and key to the values in their order.
fn settings(unit: &str) -> Settings {
    let mut section = String::new();
    let mut all = Settings::new();
    for line in text(&format!("{FOLDER}/{unit}"))
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{unit}: {line}"));
        all.entry(format!("{section}.{key}"))
            .or_default()
            .push(value.to_owned());
    }
    all
}

fn env(settings: &Settings) -> BTreeMap<String, String> {
    let pairs = settings["Service.Environment"].iter();
    pairs
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn each_waits_for_what_stops_and_sets_what_is_read() {
    for (unit, start) in UNITS {
        let settings = settings(unit);
        let env = env(&settings);
        names::hold(unit, &env);
        let wait: u64 = settings["Service.TimeoutStopSec"][0].parse().unwrap();
        let takes = match unit == SENDER {
            true => stopping_sender(&env["EMAIL_LEASE"]),
            false => stopping(&env["LOCKGATE_DRAIN_DEADLINE"]),
        };
        assert!(wait >= takes, "{unit} is killed after {wait} s and may take {takes}");
        assert_eq!(settings["Service.KillSignal"], ["SIGTERM"], "{unit}");
        assert_eq!(settings["Service.ExecStart"], [start], "{unit}");
        // A secret that it points at is one that systemd hands over.
        let handed = &settings["Service.LoadCredential"];
        let secrets = env.iter().filter(|(name, _)| name.ends_with("_FILE"));
        for (name, file) in secrets {
            let credential = format!("{}:", file.strip_prefix("%d/").unwrap());
            assert!(
                handed.iter().any(|one| one.starts_with(&credential)),
                "{unit}: {name}: {handed:?}"
            );
        }
        assert!(env.contains_key("DATABASE_URL_FILE"), "{unit}");
    }
    assert_eq!(image::entrypoint(), ["/usr/local/bin/lockgate"]);
    assert_eq!(env(&settings(SENDER))["EMAIL_SMTP_URL_FILE"], "%d/smtp-url");
}

#[test]
fn both_may_do_as_little() {
    for (unit, _) in UNITS {
        let settings = settings(unit);
        for guard in [
            "DynamicUser",
            "LockPersonality",
            "NoNewPrivileges",
            "PrivateDevices",
            "PrivateTmp",
            "ProtectClock",
            "ProtectControlGroups",
            "ProtectHome",
            "ProtectHostname",
            "ProtectKernelLogs",
            "ProtectKernelModules",
            "ProtectKernelTunables",
            "RestrictNamespaces",
            "RestrictRealtime",
        ] {
            assert_eq!(settings[&format!("Service.{guard}")], ["yes"], "{unit}: {guard}");
        }
        for (guard, value) in [
            ("CapabilityBoundingSet", ""),
            ("ProtectProc", "invisible"),
            ("ProtectSystem", "strict"),
            ("SystemCallArchitectures", "native"),
            ("SystemCallFilter", "@system-service"),
            ("UMask", "0077"),
        ] {
            assert_eq!(settings[&format!("Service.{guard}")], [value], "{unit}: {guard}");
        }
    }
}

/// Both may be on one host, and what they say is installed is what the page has installed.
#[test]
fn what_they_name_is_there() {
    let page = text("docs/deployment.md");
    let installs = |file: &str| {
        page.lines()
            .any(|line| line.starts_with("sudo install ") && line.contains(file))
    };
    let mut listen = Vec::new();
    for (unit, _) in UNITS {
        let settings = settings(unit);
        let named = &settings["Unit.Documentation"][0];
        let manual = named.strip_prefix("file:///usr/share/doc/lockgate/").unwrap();
        assert!(path("docs").join(manual).is_file(), "{unit}: {named}");
        for file in [format!("docs/{manual}"), format!("{FOLDER}/{unit}")] {
            assert!(installs(&file), "nobody installs {file}");
        }
        listen.push(env(&settings)["LOCKGATE_HEALTH_LISTEN"].clone());
    }
    assert_ne!(listen[0], listen[1]);
}

#[test]
fn systemd_understands_them() {
    // The programs are not installed where the tests run.
    let replica = lockgate_tests::cluster::program();
    let sender = replica.with_file_name("lockgate-email-sender");
    let folder = std::env::temp_dir().join(format!("lockgate-unit-{}", uuid::Uuid::new_v4().simple()));
    std::fs::create_dir(&folder).unwrap();
    let mut said = Vec::new();
    for (unit, start) in UNITS {
        let installed = start.split(' ').next().unwrap();
        let program = if unit == SENDER { &sender } else { &replica };
        let whole = text(&format!("{FOLDER}/{unit}")).replace(installed, program.to_str().unwrap());
        let file = folder.join(unit);
        std::fs::write(&file, whole).unwrap();
        said.push(Command::new("systemd-analyze").arg("verify").arg(&file).output());
    }
    std::fs::remove_dir_all(folder).unwrap();
    for verified in said {
        match verified {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success() && said.is_empty(), "{said}");
            }
            Err(_) => skipped("systemd-analyze is not here to look at the unit"),
        }
    }
}
