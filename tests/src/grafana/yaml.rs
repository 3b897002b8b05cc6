//! Writes YAML in the order in which it is put together.

use yaml_rust2::yaml::Hash;
use yaml_rust2::{Yaml, YamlEmitter};

/// A text.
#[must_use]
pub fn text(text: impl Into<String>) -> Yaml {
    Yaml::String(text.into())
}

/// A list.
#[must_use]
pub fn list(items: impl IntoIterator<Item = Yaml>) -> Yaml {
    Yaml::Array(items.into_iter().collect())
}

/// A mapping.
#[must_use]
pub fn map<const N: usize>(entries: [(&str, Yaml); N]) -> Yaml {
    Yaml::Hash(
        entries
            .map(|(key, value)| (text(key), value))
            .into_iter()
            .collect::<Hash>(),
    )
}

/// Adds to a mapping.
///
/// # Panics
/// It is none.
pub fn put(yaml: &mut Yaml, key: &str, value: Yaml) {
    let Yaml::Hash(hash) = yaml else {
        panic!("{yaml:?} is no mapping")
    };
    hash.insert(text(key), value);
}

/// The document, below a line that says where it comes from.
#[must_use]
pub fn document(about: &str, yaml: &Yaml) -> String {
    let mut out = String::new();
    YamlEmitter::new(&mut out).dump(yaml).expect("a text takes it all");
    let body = out.strip_prefix("---\n").unwrap_or(&out);
    format!(
        "# {about}\n# Written by `cargo run -p lockgate-tests --bin lockgate-grafana`; change its source, tests/src/grafana.\n{body}\n"
    )
}
