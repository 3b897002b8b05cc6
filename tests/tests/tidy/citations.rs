//! Rows of docs/requirements.md are cited by what shows them, and nothing else is cited.

use std::collections::BTreeMap;

use crate::tree::{File, Finding, is_word, words};

const PAGE: &str = "docs/requirements.md";
/// What the names of rows begin with.
const FAMILIES: [&str; 3] = ["RC.", "R36.", "R40."];

/// Each row is shown by files that are there and cite it; what is cited is a row.
pub fn check(files: &[File]) -> Vec<Finding> {
    let Some(page) = files.iter().find(|file| file.path == PAGE) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    let rows = rows(page);
    for (row, (line, shown_by)) in &rows {
        if shown_by.is_empty() {
            findings.push(Finding::new(page, *line, format!("{row} is shown by nothing")));
        }
        for path in shown_by {
            let file = files.iter().find(|file| file.path == *path);
            if file.is_none_or(|file| words(&file.text, row).next().is_none()) {
                findings.push(Finding::new(page, *line, format!("{path} does not cite {row}")));
            }
        }
    }
    for file in files.iter().filter(|file| file.path != "tests/tests/tidy/citations.rs") {
        for (at, row) in citations(&file.text) {
            match rows.get(row) {
                None => findings.push(Finding::at(file, at, format!("{row} is no row of {PAGE}"))),
                Some((_, shown_by)) if file.extension() == "rs" && !shown_by.contains(&file.path.as_str()) => {
                    findings.push(Finding::at(
                        file,
                        at,
                        format!("{PAGE} does not name this file at {row}"),
                    ));
                }
                Some(_) => {}
            }
        }
    }
    findings
}

/// By the name of a row: its line, and the paths in its last column.
fn rows(page: &File) -> BTreeMap<&str, (usize, Vec<&str>)> {
    let mut rows = BTreeMap::new();
    for (number, line) in page.text.lines().enumerate() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, row, .., shown_by, _] = cells.as_slice() else {
            continue;
        };
        if FAMILIES.iter().any(|family| row.starts_with(family)) {
            rows.insert(*row, (number + 1, shown_by.split('`').skip(1).step_by(2).collect()));
        }
    }
    rows
}

/// Names of rows, and where they stand.
fn citations(text: &str) -> impl Iterator<Item = (usize, &str)> {
    FAMILIES.iter().flat_map(move |family| {
        text.match_indices(family).filter_map(move |(at, _)| {
            let number = &text[at + family.len()..];
            let end = number.find(|char: char| !char.is_ascii_digit()).unwrap_or(number.len());
            let by_itself = !at.checked_sub(1).is_some_and(|before| is_word(text.as_bytes()[before]));
            (by_itself && end > 0).then(|| (at, &text[at..at + family.len() + end]))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::sample;

    fn wrong(rows: &str, test: &str) -> Vec<String> {
        let files = [sample(PAGE, rows), sample("tests/a.rs", test)];
        check(&files).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn rows_and_citations_that_agree_are_let_be() {
        assert_eq!(
            wrong("| R36.1 | x | `tests/a.rs` |\n", "//! So it is (R36.1).\n"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn what_does_not_agree_is_found() {
        for (rows, test, why) in [
            (
                "| R36.1 | x | `tests/a.rs` |\n",
                "//! R36.10\n",
                "tests/a.rs does not cite R36.1",
            ),
            ("| R36.1 | x | `tests/b.rs` |\n", "", "tests/b.rs does not cite R36.1"),
            ("| RC.1 | x | |\n", "", "RC.1 is shown by nothing"),
            ("", "//! R40.9\n", "R40.9 is no row of"),
            (
                "| R40.9 | x | `docs/requirements.md` |\n",
                "//! R40.9\n",
                "does not name this file at R40.9",
            ),
        ] {
            assert!(
                wrong(rows, test).join("\n").contains(why),
                "{rows} {test}: {:?}",
                wrong(rows, test)
            );
        }
    }
}
