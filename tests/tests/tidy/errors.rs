//! What users match on may get new cases.

use crate::rust::{Keep, blank};
use crate::tree::{File, Finding};

/// Each public enum of errors of the engine is `#[non_exhaustive]`: else every new case breaks those who match on it.
pub fn check(files: &[File]) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.path.starts_with("engine/src/") && file.extension() == "rs")
    {
        let code = blank(&file.text, Keep::Code);
        for (at, declared) in code.match_indices("pub enum ") {
            let name = code[at + declared.len()..].split(|c: char| !c.is_alphanumeric()).next();
            let above = code[..at].rfind(['}', ';']).map_or(0, |end| end + 1);
            if name.is_some_and(|name| name.ends_with("Error")) && !code[above..at].contains("#[non_exhaustive]") {
                let message =
                    "a public enum of errors is not #[non_exhaustive]; a new case would break who matches on it";
                found.push(Finding::at(file, at, message));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::sample;

    #[test]
    fn an_error_that_can_get_no_new_case_is_found() {
        let text =
            "#[non_exhaustive]\npub enum AError {}\n\n/// b\n#[derive(Debug)]\npub enum BError {}\npub enum C {}\n";
        let found = check(&[sample("engine/src/a.rs", text), sample("tests/src/a.rs", text)]);
        let places: Vec<_> = found.iter().map(|f| (f.path.as_str(), f.line)).collect();
        assert_eq!(places, [("engine/src/a.rs", 6)]);
    }
}
