//! Just enough Rust to find functions and tests: text with comments and literals blanked, and brackets matched in it.

use std::ops::Range;

use crate::tree::{is_word, words};

/// What [`blank`] leaves standing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Code alone.
    Code,
    /// Code and literals.
    Literals,
}

/// The text with comments (and literals, unless kept) as spaces: every other byte and every line stays where it was.
pub fn blank(text: &str, keep: Keep) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let (end, visible) = match (comment_end(bytes, at), literal_end(bytes, at)) {
            (Some(end), _) => (end, false),
            (None, Some(end)) => (end, keep == Keep::Literals),
            (None, None) => (at + 1, true),
        };
        if !visible {
            erase(&mut out[at..end]);
        }
        at = end;
    }
    String::from_utf8(out).unwrap()
}

/// Turns all but the line ends into spaces.
pub fn erase(bytes: &mut [u8]) {
    bytes
        .iter_mut()
        .filter(|byte| **byte != b'\n')
        .for_each(|byte| *byte = b' ');
}

/// Where the comment ends that begins here.
fn comment_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return Some(
            rest.iter()
                .position(|byte| *byte == b'\n')
                .map_or(bytes.len(), |length| at + length),
        );
    }
    if !rest.starts_with(b"/*") {
        return None;
    }
    let (mut end, mut depth) = (at + 2, 1);
    while depth > 0 && end < bytes.len() {
        match &bytes[end..] {
            [b'/', b'*', ..] => (end, depth) = (end + 2, depth + 1),
            [b'*', b'/', ..] => (end, depth) = (end + 2, depth - 1),
            _ => end += 1,
        }
    }
    Some(end)
}

/// Where the string or character ends that begins here.
fn literal_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let inside_name = at > 0 && is_word(bytes[at - 1]);
    match rest {
        [b'"', ..] => Some(at + quoted(rest, b'"')),
        [b'\'', b'\\', ..] => Some(at + quoted(rest, b'\'')),
        [b'\'', next, ..] => {
            // A character and then a quote is a literal; anything else is a lifetime.
            let width = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4][usize::from(next >> 4)];
            (rest.get(1 + width) == Some(&b'\'')).then_some(at + width + 2)
        }
        [b'r' | b'b' | b'c', ..] if !inside_name => raw(rest).map(|length| at + length),
        _ => None,
    }
}

/// The length of a literal with escapes, quotes included.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut length = 1;
    while length < rest.len() && rest[length] != quote {
        length += if rest[length] == b'\\' { 2 } else { 1 };
    }
    (length + 1).min(rest.len())
}

/// The length of `r"…"`, `r#"…"#`, `br##"…"##` and their like.
fn raw(rest: &[u8]) -> Option<usize> {
    let prefix = rest.iter().take(2).position(|byte| *byte == b'r')? + 1;
    let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
    let open = prefix + hashes;
    if rest.get(open) != Some(&b'"') {
        return None;
    }
    let close = [b"\"".as_slice(), "#".repeat(hashes).as_bytes()].concat();
    let length = rest[open + 1..]
        .windows(close.len())
        .position(|window| window == close.as_slice());
    Some(length.map_or(rest.len(), |length| open + 1 + length + close.len()))
}

/// One function with a body: its name, and the bytes from `fn` to the closing brace.
pub struct Function {
    pub name: String,
    pub span: Range<usize>,
}

/// All functions of a blanked text that have a body, nested ones too.
pub fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for at in words(code, "fn") {
        let rest = code[at + 2..].trim_start();
        let name: String = rest
            .bytes()
            .take_while(|byte| is_word(*byte) || *byte == b'$')
            .map(char::from)
            .collect();
        // `fn(…)` is a type.
        if !name.is_empty()
            && let Some(end) = item_end(code, at)
            && code[..end].ends_with('}')
        {
            found.push(Function { name, span: at..end });
        }
    }
    found
}

/// The end of the item that begins here: its closing brace or its semicolon, whichever comes first outside brackets.
pub fn item_end(code: &str, at: usize) -> Option<usize> {
    let mut depth = 0;
    for (offset, byte) in code.bytes().enumerate().skip(at) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b';' if depth == 0 => return Some(offset + 1),
            b'{' if depth == 0 => return closing(code, offset),
            _ => {}
        }
    }
    None
}

/// The offset just behind the bracket that closes the one at `open`.
pub fn closing(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0;
    for (offset, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(offset + 1);
        }
    }
    None
}

/// The parts of a blanked text that only a test build compiles: items under `#[cfg(test)]` or `#[test]`.
pub fn test_parts(code: &str) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    for (at, _) in code.match_indices("#[").chain(code.match_indices("#![")) {
        let open = at + code[at..].find('[').unwrap();
        let Some(end) = closing(code, open) else { continue };
        if !only_in_tests(&code[open + 1..end - 1]) {
            continue;
        }
        let whole_file = code[at..].starts_with("#!");
        let item = skip_attributes(code, end);
        parts.push(
            at..if whole_file {
                code.len()
            } else {
                item_end(code, item).unwrap_or(code.len())
            },
        );
    }
    parts
}

fn only_in_tests(attribute: &str) -> bool {
    let attribute: String = attribute.split_whitespace().collect();
    let is_test = |path: &str| path == "test" || path.ends_with("::test");
    match attribute.split_once('(') {
        Some(("cfg", condition)) => condition == "test)" || condition.starts_with("all(test,"),
        Some((path, _)) => is_test(path),
        None => is_test(&attribute),
    }
}

fn skip_attributes(code: &str, mut at: usize) -> usize {
    loop {
        at += code[at..].len() - code[at..].trim_start().len();
        match code[at..].starts_with("#[").then(|| closing(code, at + 1)).flatten() {
            Some(end) => at = end,
            None => return at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_in_literals_and_comments_are_not_counted() {
        let text = r####"
fn tricky<'a>(x: &'a str, r#type: [u8; 2]) -> char {
    let _ = ("} \" {", r#"} " {"#, b"}", br##"}"# {"##, '}', '\'', '\u{7d}', 'é');
    // } not here
    /* } /* nor } */ } */
    '{'
}
fn after(f: fn(u8) -> u8);
fn last() {}
"####;
        let code = blank(text, Keep::Code);
        assert_eq!(code.len(), text.len());
        let found: Vec<_> = functions(&code)
            .into_iter()
            .map(|f| (f.name, text[f.span].lines().count()))
            .collect();
        assert_eq!(found, [("tricky".to_owned(), 6), ("last".to_owned(), 1)]);
    }

    #[test]
    fn literals_are_kept_on_demand() {
        assert_eq!(blank("f(\"a//b\") // c", Keep::Literals), "f(\"a//b\")     ");
    }

    #[test]
    fn test_parts_are_seen() {
        let code =
            "fn a() {} #[cfg(test)] #[allow(x)] mod tests { fn b() {} } #[tokio::test] async fn c() {} fn d() {}";
        let parts: String = test_parts(code).into_iter().map(|part| &code[part]).collect();
        assert!(parts.contains("fn b") && parts.contains("fn c"));
        assert!(!parts.contains("fn a") && !parts.contains("fn d"));
        assert!(test_parts("#[cfg(not(test))] fn a() {} #[cfg(unix)] fn b() {}").is_empty());
    }
}
