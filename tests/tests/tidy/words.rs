//! Words that must not be in the repository.

use std::collections::BTreeSet;

use crate::rust::{self, Keep};
use crate::tree::{File, Finding, words};

/// Nothing is left for later, and no test is switched off; outside tests nothing is unwrapped.
pub fn unfinished(files: &[File]) -> Vec<Finding> {
    const UNFINISHED: [(&str, &str); 3] = [
        ("todo!", "finish it: nothing is left for later"),
        ("unimplemented!", "finish it: nothing is left for later"),
        ("#[ignore", "let the test run, or name it long_* and give it its reason"),
    ];
    let test_modules = test_modules(files);
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.extension() == "rs") {
        let code = rust::blank(&file.text, Keep::Code);
        for (word, advice) in UNFINISHED {
            found.extend(
                code.match_indices(word)
                    .map(|(at, _)| Finding::at(file, at, format!("{word}: {advice}"))),
            );
        }
        if is_test(&file.path, &test_modules) {
            continue;
        }
        let parts = rust::test_parts(&code);
        let unwraps =
            words(&code, "unwrap").filter(|at| code[..*at].ends_with('.') && code[*at..].starts_with("unwrap()"));
        let outside = unwraps.filter(|at| !parts.iter().any(|part| part.contains(at)));
        let advice = "unwrap() outside tests; return an error, or `expect` with the invariant that rules it out";
        found.extend(outside.map(|at| Finding::at(file, at, advice)));
    }
    found
}

fn is_test(path: &str, test_modules: &BTreeSet<String>) -> bool {
    let within = |module: &String| path == format!("{module}.rs") || path.starts_with(&format!("{module}/"));
    path.split('/').any(|part| part == "tests") || test_modules.iter().any(within)
}

/// Modules that a file declares as `#[cfg(test)] mod NAME;`, by their path without `.rs`.
fn test_modules(files: &[File]) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for file in files.iter().filter(|file| file.extension() == "rs") {
        let code = rust::blank(&file.text, Keep::Code);
        for part in rust::test_parts(&code) {
            let item: Vec<&str> = code[part].split_whitespace().collect();
            if let [.., "mod", name] = item.as_slice()
                && let Some(name) = name.strip_suffix(';')
            {
                modules.insert(format!("{}/{name}", folder_of_modules(&file.path)));
            }
        }
    }
    modules
}

/// Where the modules of a file lie: beside `mod.rs`, `lib.rs` and `main.rs`, else in a folder named after the file.
fn folder_of_modules(path: &str) -> &str {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    if ["mod.rs", "lib.rs", "main.rs"].contains(&name) {
        folder
    } else {
        path.trim_end_matches(".rs")
    }
}

/// No path that exists on one machine only.
pub fn machine_paths(files: &[File]) -> Vec<Finding> {
    // Put together here, so that this file does not hold them.
    let roots = ["work", "root", "home"].map(|name| format!("/{name}/"));
    let mut found = Vec::new();
    for file in files {
        for root in &roots {
            let starts = file
                .text
                .match_indices(root.as_str())
                .map(|(at, _)| at)
                .filter(|at| is_absolute(&file.text[..*at]));
            let message =
                format!("{root}… is a path of one machine; make it relative, or take it from the environment");
            found.extend(starts.map(|at| Finding::at(file, at, message.as_str())));
        }
    }
    found
}

/// Behind a letter, a dot or a closing brace the slash goes on with a relative path, an address or a variable.
fn is_absolute(before: &str) -> bool {
    !before.ends_with(|c: char| c.is_alphanumeric() || "._~-}$)]".contains(c))
}

/// No marker of a merge that was not finished.
pub fn conflict_markers(files: &[File]) -> Vec<Finding> {
    let markers = ["<", "|", ">"].map(|sign| sign.repeat(7) + " ");
    let mut found = Vec::new();
    for file in files {
        for (at, line) in file.text.lines().enumerate() {
            if markers.iter().any(|marker| line.starts_with(marker.as_str())) {
                found.push(Finding::new(file, at + 1, "conflict marker; finish the merge"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::sample;

    fn lines(found: &[Finding]) -> Vec<(&str, usize)> {
        found
            .iter()
            .map(|finding| (finding.path.as_str(), finding.line))
            .collect()
    }

    #[test]
    fn unfinished_work_is_found() {
        let code = "fn a() { todo!() }\nfn b() { unimplemented!() }\n#[ignore = \"later\"]\n// todo!()\n";
        let found = unfinished(&[sample("tests/tests/a.rs", code)]);
        assert_eq!(
            lines(&found),
            [
                ("tests/tests/a.rs", 1),
                ("tests/tests/a.rs", 2),
                ("tests/tests/a.rs", 3)
            ]
        );
    }

    #[test]
    fn an_unwrap_outside_tests_is_found() {
        let code = "fn a() { b.unwrap(); c.unwrap_or(1); }\n#[cfg(test)]\nmod tests {\n fn d() { e.unwrap() }\n}\n\
            fn f() { g\n.unwrap() }\n#[cfg(test)]\nmod elsewhere;\n";
        let unwrap = "fn a() { b.unwrap() }";
        let found = unfinished(&[
            sample("engine/src/a.rs", code),
            sample("engine/src/a/elsewhere.rs", unwrap),
            sample("engine/src/elsewhere.rs", unwrap),
            sample("tests/src/lib.rs", unwrap),
        ]);
        assert_eq!(
            lines(&found),
            [
                ("engine/src/a.rs", 1),
                ("engine/src/a.rs", 7),
                ("engine/src/elsewhere.rs", 1)
            ]
        );
    }

    #[test]
    fn a_machine_path_is_found() {
        let text =
            "cd ROOT/x\n'ROOT/y'\nhttps://a.exampleROOT/z .ROOT/x $HOMEROOT/y ${A}ROOT/z\n".replace("ROOT", "/root");
        let found = machine_paths(&[sample("a.md", &text)]);
        assert_eq!(lines(&found), [("a.md", 1), ("a.md", 2)]);
    }

    #[test]
    fn a_conflict_marker_is_found() {
        let text = format!("a\n{} HEAD\nb\n=======\n{} other\n", "<".repeat(7), ">".repeat(7));
        assert_eq!(
            lines(&conflict_markers(&[sample("a.md", &text)])),
            [("a.md", 2), ("a.md", 5)]
        );
    }
}
