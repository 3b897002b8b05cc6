//! The engine speaks to Postgres and Kafka through its two adapters only.

use crate::rust::{Keep, blank};
use crate::tree::{File, Finding, words};

/// A library, and the only folder of the engine in which its name may stand.
const SEAMS: [(&str, &str); 2] = [("sqlx", "engine/src/postgres/"), ("rdkafka", "engine/src/kafka/")];

/// Neither library is named elsewhere in the engine's code; prose may name it.
pub fn check(files: &[File]) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.path.starts_with("engine/") && file.extension() == "rs")
    {
        let code = blank(&file.text, Keep::Code);
        for (library, home) in SEAMS.iter().filter(|(_, home)| !file.path.starts_with(home)) {
            let message =
                format!("{library} is named outside {home}; go through the trait that the adapter implements");
            found.extend(words(&code, library).map(|at| Finding::at(file, at, message.as_str())));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::sample;

    #[test]
    fn a_library_outside_its_adapter_is_found() {
        let text = "// sqlx and rdkafka\nuse sqlx::PgPool;\nuse rdkafka::error;\n";
        let found = check(&[
            sample("engine/src/leader.rs", text),
            sample("engine/src/postgres/pool.rs", text),
            sample("engine/src/kafka/mod.rs", text),
            sample("tests/tests/a.rs", text),
        ]);
        let places: Vec<_> = found.iter().map(|f| (f.path.as_str(), f.line)).collect();
        let expected = [
            ("engine/src/leader.rs", 2),
            ("engine/src/leader.rs", 3),
            ("engine/src/postgres/pool.rs", 3),
            ("engine/src/kafka/mod.rs", 2),
        ];
        assert_eq!(places, expected);
    }
}
