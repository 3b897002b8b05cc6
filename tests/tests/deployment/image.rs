//! The image.

use std::collections::BTreeMap;
use std::process::Command;

use crate::files::{is_pinned, path, port, text};
use crate::names;

const DOCKERFILE: &str = "ops/docker/Dockerfile";

/// Instructions with their arguments, continued lines put together.
fn instructions() -> Vec<(String, String)> {
    let text = text(DOCKERFILE).replace("\\\n", " ");
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let split = lines.map(|line| line.split_once(' ').unwrap());
    split
        .map(|(name, rest)| (name.to_owned(), rest.trim().to_owned()))
        .collect()
}

fn all(name: &str) -> Vec<String> {
    let wanted = instructions().into_iter().filter(|(found, _)| found == name);
    wanted.map(|(_, rest)| rest).collect()
}

/// What the image itself sets.
pub fn env() -> BTreeMap<String, String> {
    let pairs = all("ENV");
    pairs
        .iter()
        .flat_map(|line| line.split_whitespace())
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

pub fn exposed() -> Vec<u64> {
    all("EXPOSE")
        .iter()
        .flat_map(|line| line.split_whitespace())
        .map(|port| port.parse().unwrap())
        .collect()
}

/// The only program that the image starts by itself.
pub fn entrypoint() -> Vec<String> {
    serde_json::from_str(&all("ENTRYPOINT")[0]).unwrap()
}

#[test]
fn it_is_built_in_stages_from_pinned_images() {
    let from = all("FROM");
    assert!(from.len() >= 2, "{from:?}");
    for image in &from {
        let image = image.split_whitespace().next().unwrap();
        assert!(is_pinned(image), "{image}");
    }
    let last = from.last().unwrap();
    assert!(last.contains("slim") || last.contains("distroless"), "{last}");
    let manifest: toml::Table = text("Cargo.toml").parse().unwrap();
    let needed = manifest["workspace"]["package"]["rust-version"].as_str().unwrap();
    let rust = from[0].strip_prefix("rust:").unwrap();
    let numbers = |version: &str| {
        let parts = version.split(['.', '-']).take(2);
        parts.map(|part| part.parse::<u32>().unwrap()).collect::<Vec<_>>()
    };
    assert!(
        numbers(rust) >= numbers(needed),
        "{rust} cannot build what needs Rust {needed}"
    );
}

#[test]
fn it_runs_as_a_numbered_nobody_and_tells_its_health() {
    let users = all("USER");
    let [user] = &users[..] else { panic!("{users:?}") };
    let (user, group) = user.split_once(':').unwrap();
    assert!(user.parse::<u32>().unwrap() > 0 && group.parse::<u32>().unwrap() > 0);
    let config = names::hold(DOCKERFILE, &env());
    assert!(exposed().contains(&port(config.health.listen.as_deref().unwrap())));
    assert_eq!(all("STOPSIGNAL"), ["SIGTERM"]);
    assert_eq!(entrypoint(), ["/usr/local/bin/lockgate"]);
    assert_eq!(all("CMD"), ["[\"run\"]"]);
}

#[test]
fn what_it_copies_is_there() {
    for copied in all("COPY") {
        let words: Vec<&str> = copied.split_whitespace().collect();
        if words[0].starts_with("--from") {
            continue;
        }
        for source in &words[..words.len() - 1] {
            assert!(path(source).exists(), "{source}");
        }
    }
    let ignored = text(".dockerignore");
    for kept in ignored.lines().filter_map(|line| line.strip_prefix('!')) {
        assert!(path(kept).exists(), "{kept} is kept and not there");
    }
}

/// What the build is given.
fn context() -> Vec<String> {
    let ignored = text(".dockerignore");
    let kept = ignored.lines().filter_map(|line| line.strip_prefix('!'));
    kept.map(str::to_owned).collect()
}

#[test]
fn cargo_can_read_what_the_build_is_given() {
    let folder = std::env::temp_dir().join(format!("lockgate-context-{}", uuid::Uuid::new_v4().simple()));
    std::fs::create_dir(&folder).unwrap();
    for kept in context() {
        let copied = Command::new("cp")
            .arg("-r")
            .arg(path(&kept))
            .arg(&folder)
            .status()
            .unwrap();
        assert!(copied.success(), "{kept}");
    }
    let read = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args([
            "metadata",
            "--locked",
            "--offline",
            "--no-deps",
            "--format-version",
            "1",
        ])
        .current_dir(&folder)
        .output()
        .unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
}

#[test]
fn what_is_built_includes_nothing_that_it_is_not_given() {
    let (root, kept) = (path(".").canonicalize().unwrap(), context());
    let mut folders = vec![path("engine"), path("workflows")];
    let mut found = 0;
    while let Some(folder) = folders.pop() {
        // What others write beside us may be gone by now.
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        for entry in entries.map(|entry| entry.path()) {
            if entry.is_dir() {
                folders.push(entry);
                continue;
            }
            if entry.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let Ok(code) = std::fs::read_to_string(&entry) else {
                continue;
            };
            for part in code.split("include_str!(\"").skip(1) {
                let name = part.split('"').next().unwrap();
                let file = folder
                    .join(name)
                    .canonicalize()
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
                let within = file.strip_prefix(&root).unwrap();
                assert!(
                    kept.iter().any(|kept| within.starts_with(kept)),
                    "{}: {name}",
                    entry.display()
                );
                found += 1;
            }
        }
    }
    assert!(found > 100, "{found} files were looked for");
}
