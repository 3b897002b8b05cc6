//! All keys as a file to start from, and as a page to read: both made of the one list of keys.

use std::fmt::Write as _;

use super::Config;
use super::keys::{KEYS, Key, SECTIONS, env_name};

const HEAD: &str = "\
# Configuration of lockgate and email-sender: every key, commented out, with its default.
#
# A value comes from the strongest of these that has it: flags (--set section.name=VALUE), the environment, this file
# (--config FILE or $LOCKGATE_CONFIG, else ./lockgate.toml), the default. `lockgate config show --origin` says which.
# In the environment section.name is LOCKGATE_SECTION_NAME. Secrets may also be in a file of their own, which the variable
# with _FILE behind its name points at. Unknown keys are refused.
# Durations have a unit: 500ms, 30s, 1h 30m, 2days.
";

/// What `lockgate config sample` prints: TOML that changes nothing until something in it is uncommented.
#[must_use]
pub fn sample() -> String {
    let mut text = HEAD.to_owned();
    let defaults = Config::default();
    for (section, about) in SECTIONS {
        let _ = write!(text, "\n# {about}\n[{section}]\n");
        match *section {
            "topics" => {
                for (kind, topic) in &defaults.topics {
                    let _ = writeln!(text, "#{kind} = \"{topic}\"");
                }
            }
            "kafka.properties" => text.push_str("#\"security.protocol\" = \"sasl_ssl\"\n"),
            _ => {
                for key in of_section(section) {
                    let _ = write!(
                        text,
                        "# {}{}\n#{} = {}\n",
                        key.about,
                        well_known(key),
                        name(key),
                        written(key, &defaults)
                    );
                }
            }
        }
    }
    text
}

/// What `lockgate config reference` prints: a table of all keys in Markdown.
#[must_use]
pub fn reference() -> String {
    let defaults = Config::default();
    let mut text = String::new();
    for (section, about) in SECTIONS {
        let _ = write!(text, "### `[{section}]`\n\n{about}\n\n");
        if of_section(section).next().is_none() {
            continue;
        }
        text.push_str("| key | kind | default | what | environment |\n| --- | --- | --- | --- | --- |\n");
        for key in of_section(section) {
            let default = match (key.show)(&defaults) {
                value if value.is_empty() => "not set".to_owned(),
                value => format!("`{value}`"),
            };
            let _ = writeln!(
                text,
                "| `{}` | {} | {default} | {} | {} |",
                key.path,
                key.kind,
                key.about,
                variables(key).join("<br>")
            );
        }
        text.push('\n');
    }
    text
}

fn of_section(section: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter()
        .filter(move |key| key.path.split_once('.').is_some_and(|(own, _)| own == section))
}

fn name(key: &Key) -> &'static str {
    key.path.split_once('.').map_or(key.path, |(_, name)| name)
}

/// Its names in the environment besides ours.
fn well_known(key: &Key) -> String {
    let names: Vec<String> = key.env.iter().map(|name| format!("${name}")).collect();
    let secret = key.secret.then(|| "secret".to_owned());
    let all: Vec<String> = secret.into_iter().chain(names).collect();
    if all.is_empty() {
        String::new()
    } else {
        format!(" ({})", all.join(", "))
    }
}

/// The variables that set it, the strongest first.
fn variables(key: &Key) -> Vec<String> {
    let ours = env_name(key.path);
    let names = key.env.iter().map(|name| (*name).to_owned()).chain([ours]);
    names
        .map(|name| match key.secret {
            true => format!("${name} or ${name}_FILE"),
            false => format!("${name}"),
        })
        .collect()
}

/// The default as TOML.
fn written(key: &Key, defaults: &Config) -> String {
    let value = (key.show)(defaults);
    match key.kind {
        "number" | "true or false" => value,
        _ => format!("\"{value}\""),
    }
}
