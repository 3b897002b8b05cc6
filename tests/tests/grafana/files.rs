//! The files in `ops` are those that the source makes.

use lockgate_tests::grafana::{alert::RUNBOOK, files, root};

#[test]
fn files_are_as_their_source_makes_them() {
    let stale: Vec<String> = files(root(), RUNBOOK)
        .into_iter()
        .filter(|(name, text)| std::fs::read_to_string(root().join(name)).ok().as_ref() != Some(text))
        .map(|(name, _)| name)
        .collect();
    assert!(
        stale.is_empty(),
        "run `cargo run -p lockgate-tests --bin lockgate-grafana`: {stale:?}"
    );
}

#[test]
fn nothing_else_lies_beside_them() {
    let made: Vec<String> = files(root(), RUNBOOK).into_iter().map(|(name, _)| name).collect();
    for entry in std::fs::read_dir(root().join("ops/grafana/dashboards")).unwrap() {
        let name = format!(
            "ops/grafana/dashboards/{}",
            entry.unwrap().file_name().to_string_lossy()
        );
        assert!(made.contains(&name), "{name} is left over");
    }
}
