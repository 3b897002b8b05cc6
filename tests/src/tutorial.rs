//! docs/tutorial.md, taken apart: the program it shows, and the commands.

use std::path::Path;

/// The page.
///
/// # Panics
/// It is not there.
#[must_use]
pub fn page() -> String {
    std::fs::read_to_string(root().join("docs/tutorial.md")).unwrap()
}

/// What stands between fences of a language, in order.
#[must_use]
pub fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("\n```{language}\n");
    let parts = page.split(&fence).skip(1);
    parts
        .map(|part| part.split("```").next().unwrap_or_default().to_owned())
        .collect()
}

/// The root of the repository.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_the_program_that_is_compiled() {
        let source = std::fs::read_to_string(root().join("tests/src/bin/lockgate-tutorial.rs")).unwrap();
        let (_, program) = source.split_once("// The document from here.\n").unwrap();
        assert_eq!(blocks(&page(), "rust"), [program]);
    }

    #[test]
    fn the_crate_of_the_page_has_the_versions_of_ours() {
        let workspace = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
        let commands = blocks(&page(), "sh").concat();
        let pinned: Vec<&str> = commands
            .split_whitespace()
            .filter(|word| word.contains('@') && !word.contains(['\'', '/']))
            .collect();
        assert_eq!(pinned.len(), 1, "{pinned:?}");
        for word in pinned {
            let (name, version) = word.split_once('@').unwrap();
            assert!(
                workspace.contains(&format!("{name} = {{ version = \"{version}\"")),
                "{word}"
            );
        }
    }
}
