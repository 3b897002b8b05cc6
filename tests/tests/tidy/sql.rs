//! Just enough SQL: text with comments and string literals blanked.

use crate::rust::erase;

/// What [`blank`] does with a dollar-quoted body.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Bodies {
    /// It is read like the text around it.
    Read,
    /// It is blanked as the literal that it is.
    Blank,
}

/// The text with comments and literals as spaces; every other byte and every line stays where it was.
pub fn blank(text: &str, bodies: Bodies) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text.as_bytes()[at..];
        let length = match rest {
            [b'-', b'-', ..] => rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
            [b'/', b'*', ..] => until(rest, 2, b"*/"),
            [b'\'', ..] => until(rest, 1, b"'"),
            [b'$', ..] => dollar(rest, bodies),
            _ => 0,
        };
        erase(&mut out[at..at + length]);
        at += length.max(1);
    }
    String::from_utf8(out).unwrap()
}

/// The length up to and with `end`, looked for behind the first `from` bytes.
fn until(rest: &[u8], from: usize, end: &[u8]) -> usize {
    let found = rest[from..].windows(end.len()).position(|window| window == end);
    found.map_or(rest.len(), |length| from + length + end.len())
}

/// The length of `$tag$` (when bodies are read) or of `$tag$…$tag$`; 0 for a parameter such as `$1`.
fn dollar(rest: &[u8], bodies: Bodies) -> usize {
    let tag = rest[1..]
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_')
        .count()
        + 2;
    if rest.get(tag - 1) != Some(&b'$') || rest[1].is_ascii_digit() {
        return 0;
    }
    match bodies {
        Bodies::Read => tag,
        Bodies::Blank => until(rest, tag, &rest[..tag]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked() {
        let text = "select ';' -- ;\n, 'it''s', $1 /* ; */ from $body$ a; 'b' $body$;";
        assert_eq!(
            blank(text, Bodies::Blank).split_whitespace().collect::<String>(),
            "select,,$1from;"
        );
        assert_eq!(
            blank(text, Bodies::Read).split_whitespace().collect::<String>(),
            "select,,$1froma;;"
        );
    }
}
