//! The files under `ops`, and what they hold.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};
use yaml_rust2::{Yaml, YamlLoader};

/// A file of the checkout.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// What it holds.
pub fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every document of a text in YAML; empty ones are left out.
pub fn documents(what: &str, yaml: &str) -> Vec<Value> {
    let read = YamlLoader::load_from_str(yaml).unwrap_or_else(|error| panic!("{what}: {error}"));
    let values = read.iter().map(value);
    values.filter(|document| !document.is_null()).collect()
}

fn value(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::Hash(hash) => Value::Object(object(hash)),
        Yaml::Array(items) => items.iter().map(value).collect(),
        Yaml::String(text) => text.as_str().into(),
        Yaml::Integer(number) => (*number).into(),
        Yaml::Real(number) => number.parse::<f64>().unwrap().into(),
        Yaml::Boolean(truth) => (*truth).into(),
        Yaml::Null => Value::Null,
        other => panic!("{other:?}: a kind of value that these files have no use for"),
    }
}

/// What is written in a mapping wins over what is merged into it.
fn object(hash: &yaml_rust2::yaml::Hash) -> Map<String, Value> {
    let mut all = Map::new();
    let merged = hash.iter().filter(|(key, _)| key.as_str() == Some("<<"));
    for from in merged.filter_map(|(_, from)| from.as_hash()) {
        all.extend(object(from));
    }
    for (key, own) in hash.iter().filter(|(key, _)| key.as_str() != Some("<<")) {
        all.insert(key.as_str().unwrap().to_owned(), value(own));
    }
    all
}

/// The one document of a file.
pub fn document(name: &str) -> Value {
    let [document] = &documents(name, &text(name))[..] else {
        panic!("{name} has not one document")
    };
    document.clone()
}

/// An image names one build: a digest, or a tag that is a version with its patch level.
pub fn is_pinned(image: &str) -> bool {
    if let Some((_, digest)) = image.split_once("@sha256:") {
        return digest.len() == 64;
    }
    let Some((_, tag)) = image.rsplit_once(':') else {
        return false;
    };
    let version = tag
        .strip_prefix('v')
        .unwrap_or(tag)
        .split('-')
        .next()
        .unwrap_or_default();
    let numbers: Vec<&str> = version.split('.').collect();
    numbers.len() >= 2 && numbers.iter().all(|number| number.parse::<u32>().is_ok())
}

/// The port of `host:port`.
pub fn port(listen: &str) -> u64 {
    listen.rsplit_once(':').unwrap().1.parse().unwrap()
}

pub fn seconds(duration: &str) -> u64 {
    humantime(duration).as_secs()
}

fn humantime(text: &str) -> Duration {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    let number: u64 = digits.parse().unwrap();
    match &text[digits.len()..] {
        "" | "s" => Duration::from_secs(number),
        "m" | "min" => Duration::from_secs(number * 60),
        other => panic!("{other}: a unit that this test does not know"),
    }
}

/// What a replica may take from SIGTERM to its end.
pub fn stopping(drain: &str) -> u64 {
    seconds(drain) + lockgate::cli::GRACE.as_secs()
}

/// What email-sender may take: while its database is silent a lease, and then ten seconds to leave its group.
pub fn stopping_sender(lease: &str) -> u64 {
    seconds(lease) + 10
}

#[test]
fn every_yaml_is_one() {
    let mut found = 0;
    let mut folders = vec![path("ops")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap().path();
            let name = entry.file_name().unwrap().to_string_lossy().into_owned();
            if entry.is_dir() {
                // Templates are YAML only when helm has filled them in.
                folders.extend((name != "templates").then_some(entry));
            } else if name.ends_with(".yaml") || name.ends_with(".yml") {
                let text = std::fs::read_to_string(&entry).unwrap();
                assert!(!documents(&name, &text).is_empty(), "{name} is empty");
                found += 1;
            }
        }
    }
    assert!(found >= 6, "{found} files were looked at");
}

#[test]
fn a_tag_without_a_version_is_no_pin() {
    for image in [
        "postgres:18.6-bookworm",
        "prom/prometheus:v3.7.3",
        "lockgate:0.1.0",
        "debian:12.12-slim",
    ] {
        assert!(is_pinned(image), "{image}");
    }
    for image in [
        "postgres",
        "postgres:latest",
        "postgres:18",
        "rust:slim",
        "a/b:v3",
        "x@sha256:abc",
    ] {
        assert!(!is_pinned(image), "{image}");
    }
}
