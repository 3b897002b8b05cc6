//! A file and a function are short enough to be read at one go.

use crate::rust::{self, Keep};
use crate::tree::{File, Finding, line_of};

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;
const SOURCES: [&str; 6] = ["rs", "sql", "sh", "py", "java", "js"];

/// No source file is longer than the limit.
pub fn files(files: &[File]) -> Vec<Finding> {
    let sources = files.iter().filter(|file| SOURCES.contains(&file.extension()));
    let long = sources.filter(|file| file.text.lines().count() > FILE_LINES);
    long.map(|file| {
        let lines = file.text.lines().count();
        Finding::new(
            file,
            FILE_LINES + 1,
            format!("{lines} lines; split the file, {FILE_LINES} is the most"),
        )
    })
    .collect()
}

/// No function of a Rust or shell file is longer than the limit.
pub fn functions(files: &[File]) -> Vec<Finding> {
    files
        .iter()
        .flat_map(|file| spans(file).into_iter().filter_map(|span| judge(file, &span)))
        .collect()
}

/// A function: its name, its first line, and its number of lines.
struct Span {
    name: String,
    line: usize,
    lines: usize,
}

fn judge(file: &File, span: &Span) -> Option<Finding> {
    let message = format!(
        "`{}` has {} lines; split it, {FUNCTION_LINES} is the most",
        span.name, span.lines
    );
    (span.lines > FUNCTION_LINES).then(|| Finding::new(file, span.line, message))
}

fn spans(file: &File) -> Vec<Span> {
    match file.extension() {
        "rs" => rust_spans(&file.text),
        "sh" => shell_spans(&file.text),
        _ => Vec::new(),
    }
}

fn rust_spans(text: &str) -> Vec<Span> {
    let code = rust::blank(text, Keep::Code);
    let span = |function: rust::Function| Span {
        line: line_of(&code, function.span.start),
        lines: code[function.span].lines().count(),
        name: function.name,
    };
    rust::functions(&code).into_iter().map(span).collect()
}

/// A shell function ends at the first line that is its bracket, as far in as its head.
fn shell_spans(text: &str) -> Vec<Span> {
    let lines: Vec<&str> = text.lines().collect();
    let mut spans = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some((name, bracket)) = shell_head(line) else {
            continue;
        };
        let indent = &line[..line.len() - line.trim_start().len()];
        let close = format!("{indent}{bracket}");
        let ends = |later: &&str| {
            later
                .strip_prefix(&close)
                .is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
        };
        let length = lines[at..]
            .iter()
            .position(ends)
            .map_or(lines.len() - at, |length| length + 1);
        spans.push(Span {
            name: name.to_owned(),
            line: at + 1,
            lines: length,
        });
    }
    spans
}

/// The name, and the bracket that will close it, of a function that begins on this line and does not end on it.
fn shell_head(line: &str) -> Option<(&str, char)> {
    let head = line.trim_start();
    let head = head.strip_prefix("function ").unwrap_or(head);
    let (name, body) = head.split_once("()")?;
    let body = body.trim_start();
    let named = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_-".contains(c));
    let bracket = match body.chars().next()? {
        '{' => '}',
        '(' => ')',
        _ => return None,
    };
    (named && !body[1..].trim_end().ends_with(bracket)).then_some((name, bracket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::sample;

    #[test]
    fn a_long_file_is_found() {
        let text = |lines| "select 1;\n".repeat(lines);
        let found = files(&[
            sample("a.sql", &text(501)),
            sample("b.sql", &text(500)),
            sample("c.md", &text(501)),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].path, "a.sql");
    }

    #[test]
    fn a_long_rust_function_is_found() {
        let long = format!("fn f() {{}}\n\nfn g(s: &str) {{\n{}}}\n", "    h(\"}\");\n".repeat(69));
        let found = functions(&[
            sample("a.rs", &long),
            sample("b.rs", &long.replacen("    h(\"}\");\n", "", 1)),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].path.as_str(), found[0].line), ("a.rs", 3));
    }

    #[test]
    fn a_long_shell_function_is_found() {
        let body = "  echo }\n".repeat(69);
        let text =
            format!("short() {{ echo; }}\nf() {{ # X\n{body}}} 2>/dev/null\ng() (\n{body})\nh() {{\n  echo\n}}\n");
        let found = functions(&[sample("a.sh", &text)]);
        assert_eq!(found.iter().map(|f| f.line).collect::<Vec<_>>(), [2, 73], "{found:?}");
    }
}
