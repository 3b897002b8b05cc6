//! Where the servers are. Tests never use `DATABASE_URL` or `KAFKA_BROKERS`: those may be somebody's real ones.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// URL of a Postgres on which tests may make databases and roles.
#[must_use]
pub fn postgres_url() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| given_or_started("LOCKGATE_TEST_DATABASE_URL", "postgres", "DATABASE_URL"))
}

/// URL of a PgBouncer before that Postgres, where one was started with it.
#[must_use]
pub fn pooler_url() -> Option<&'static str> {
    static URL: OnceLock<Option<String>> = OnceLock::new();
    URL.get_or_init(|| std::env::var("LOCKGATE_TEST_PGBOUNCER_URL").ok())
        .as_deref()
}

/// Brokers of a Kafka on which tests may make topics.
#[must_use]
pub fn kafka_brokers() -> &'static str {
    static BROKERS: OnceLock<String> = OnceLock::new();
    BROKERS.get_or_init(|| given_or_started("LOCKGATE_TEST_KAFKA_BROKERS", "kafka", "KAFKA_BROKERS"))
}

fn given_or_started(given: &str, service: &str, printed: &str) -> String {
    if let Ok(value) = std::env::var(given) {
        return value;
    }
    services(&["up", service]);
    let printout = services(&["env"]);
    exported(&printout, printed).unwrap_or_else(|| panic!("services.sh env printed no {printed}: {printout}"))
}

fn services(arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/dev/services.sh");
    let output = Command::new(&script)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{} cannot be run: {error}", script.display()));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "services.sh {} failed: {errors}",
        arguments.join(" ")
    );
    String::from_utf8(output.stdout).unwrap()
}

fn exported(printout: &str, name: &str) -> Option<String> {
    let prefix = format!("export {name}=");
    let value = printout.lines().find_map(|line| line.trim().strip_prefix(&prefix))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exported_values_are_read_with_and_without_quotes() {
        let printout = "export A=one\nexport B=\"two 2\"\nexport C='three'\n";
        assert_eq!(exported(printout, "A").as_deref(), Some("one"));
        assert_eq!(exported(printout, "B").as_deref(), Some("two 2"));
        assert_eq!(exported(printout, "C").as_deref(), Some("three"));
        assert_eq!(exported(printout, "D"), None);
    }
}
