//! Log lines of level info and above have a name of the catalogue, values as fields and a constant sentence.

use std::collections::BTreeSet;
use std::ops::Range;

use lockgate::telemetry::catalogue::{EVENTS, EventDef};

use crate::rust::{Keep, blank, closing, test_parts};
use crate::tree::{File, Finding, is_word};

const LEVELS: [&str; 3] = ["error", "warn", "info"];

/// Every line is an event of the catalogue, and every event of the catalogue is a line somewhere.
pub fn check(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut used = BTreeSet::new();
    for file in files.iter().filter(|file| is_told(&file.path)) {
        for line in lines(&file.text) {
            match check_line(&line, EVENTS) {
                Ok(event) => {
                    used.insert(event);
                }
                Err(wrong) => findings.push(Finding::at(file, line.at, wrong)),
            }
        }
    }
    // Nothing was found where nothing was looked at.
    if let Some(catalogue) = files.iter().find(|file| file.path.ends_with("catalogue/events.rs")) {
        for def in EVENTS.iter().filter(|def| !used.contains(def.name)) {
            let at = catalogue.text.find(&format!("\"{}\"", def.name)).unwrap_or_default();
            findings.push(Finding::at(catalogue, at, "no line of the code has this name"));
        }
    }
    findings
}

fn is_told(path: &str) -> bool {
    let of_product = path.starts_with("engine/src/") || path.starts_with("workflows/src/");
    of_product && path.ends_with(".rs") && !path.ends_with("tests.rs")
}

/// A line of the log, as it stands in the code.
struct Line {
    at: usize,
    level: &'static str,
    arguments: Vec<String>,
}

fn lines(text: &str) -> Vec<Line> {
    let code = blank(text, Keep::Literals);
    let bare = blank(text, Keep::Code);
    let tests = test_parts(&bare);
    let mut found = Vec::new();
    for level in LEVELS {
        let macro_name = format!("tracing::{level}!");
        for (at, _) in bare.match_indices(&macro_name) {
            let open = at + macro_name.len();
            let in_test = tests.iter().any(|part| part.contains(&at));
            if let Some(end) = closing(&bare, open).filter(|_| !in_test) {
                found.push(Line {
                    at,
                    level,
                    arguments: arguments(&bare, &code, open + 1..end - 1),
                });
            }
        }
    }
    found
}

/// What stands between the commas that are in no bracket.
fn arguments(bare: &str, code: &str, within: Range<usize>) -> Vec<String> {
    let (mut depth, mut from) = (0, within.start);
    let mut found = Vec::new();
    for at in within.clone() {
        match bare.as_bytes()[at] {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            b',' if depth == 0 => {
                found.push(code[from..at].trim().to_owned());
                from = at + 1;
            }
            _ => {}
        }
    }
    found.push(code[from..within.end].trim().to_owned());
    found.retain(|argument| !argument.is_empty());
    found
}

fn check_line(line: &Line, events: &[&'static EventDef]) -> Result<&'static str, String> {
    let named = line
        .arguments
        .iter()
        .find_map(|argument| argument.strip_prefix("name:"));
    let name = named.ok_or("a line of this level has a name of the catalogue: `name: \"…\"`")?;
    let name = name.trim().trim_matches('"');
    let def = events.iter().find(|def| def.name == name);
    let def = def.ok_or_else(|| format!("{name} is not in telemetry/catalogue/events.rs"))?;
    if def.level.to_lowercase() != line.level {
        return Err(format!("{name} is of level {} in the catalogue", def.level));
    }
    for argument in &line.arguments {
        if argument.starts_with('"') {
            if argument.contains('{') {
                return Err(format!("{name}: values are fields, not prose"));
            }
            continue;
        }
        let field = field_of(argument);
        if let Some(field) = field
            && !def.fields.contains(&field)
        {
            return Err(format!("{name} has no field {field} in the catalogue"));
        }
    }
    Ok(def.name)
}

/// The name of the field that an argument is; none of what is no field.
fn field_of(argument: &str) -> Option<&str> {
    if argument.starts_with("name:") || argument.starts_with("target:") || argument.starts_with("parent:") {
        return None;
    }
    let argument = argument.trim_start_matches(['%', '?']);
    let end = argument
        .bytes()
        .position(|byte| !is_word(byte))
        .unwrap_or(argument.len());
    let rest = argument[end..].trim_start();
    (rest.is_empty() || (rest.starts_with('=') && !rest.starts_with("=="))).then(|| &argument[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    static LOST: EventDef = EventDef {
        name: "lost",
        level: "WARN",
        about: "",
        fields: &["run", "error"],
    };

    fn wrong(code: &str) -> Vec<Result<&'static str, String>> {
        lines(code).iter().map(|line| check_line(line, &[&LOST])).collect()
    }

    #[test]
    fn lines_of_the_catalogue_are_let_be() {
        let code = r#"
            fn f() {
                tracing::warn!(name: "lost", run = %claim.run(1, 2), %error, "a run was lost");
                tracing::debug!("anything {goes}");
            }
            #[cfg(test)] mod tests { fn g() { tracing::error!("in a test {}", 1); } }"#;
        assert_eq!(wrong(code), [Ok("lost")]);
    }

    #[test]
    fn others_are_found() {
        for (code, why) in [
            (r#"tracing::warn!("no name")"#, "has a name"),
            (r#"tracing::warn!(name: "gone", "text")"#, "not in"),
            (r#"tracing::error!(name: "lost", "text")"#, "is of level"),
            (r#"tracing::warn!(name: "lost", batch = 1, "text")"#, "no field batch"),
            (r#"tracing::warn!(name: "lost", batch, "text")"#, "no field batch"),
            (r#"tracing::warn!(name: "lost", run, "text {run}")"#, "not prose"),
        ] {
            let found = wrong(code);
            let [Err(found)] = found.as_slice() else {
                unreachable!("{code}: {found:?}")
            };
            assert!(found.contains(why), "{code}: {found}");
        }
    }
}
