//! The files of the repository, and what a check says about them.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

/// One text file.
pub struct File {
    /// Relative to the root of the repository, with `/`.
    pub path: String,
    pub text: String,
}

impl File {
    /// The part after the last dot of the name.
    pub fn extension(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.rsplit_once('.').map_or("", |(_, extension)| extension)
    }
}

/// One breach of a rule: where it is, and what to do about it.
#[derive(Debug)]
pub struct Finding {
    pub path: String,
    pub line: usize,
    pub message: String,
}

impl Finding {
    pub fn new(file: &File, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: file.path.clone(),
            line,
            message: message.into(),
        }
    }

    /// A finding at a byte offset of the file's text, or of a blanked copy of it.
    pub fn at(file: &File, offset: usize, message: impl Into<String>) -> Self {
        Self::new(file, line_of(&file.text, offset), message)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// The line, counted from 1, in which a byte offset lies.
pub fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count()
}

/// The offsets at which `word` stands by itself: no letter, digit or underscore touches it.
pub fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = text.as_bytes();
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = at.checked_sub(1).is_some_and(|before| is_word(bytes[before]));
        let after = bytes.get(at + word.len()).is_some_and(|after| is_word(*after));
        !before && !after
    })
}

/// May this byte be part of a name?
pub fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// All text files that git tracks or would track; all that lie there when git cannot say (a checkout owned by another user).
pub fn repository() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let paths = git_files(root).unwrap_or_else(|| {
        let mut paths = Vec::new();
        walk(root, "", &mut paths);
        paths
    });
    let read = |path: String| {
        fs::read_to_string(root.join(&path))
            .ok()
            .map(|text| File { path, text })
    };
    paths.into_iter().filter_map(read).collect()
}

fn git_files(root: &Path) -> Option<Vec<String>> {
    let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
    let listing = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| listing.split_terminator('\0').map(str::to_owned).collect())
}

fn walk(root: &Path, below: &str, paths: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(below)).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let path = if below.is_empty() {
            name.clone()
        } else {
            format!("{below}/{name}")
        };
        let kind = entry.file_type().unwrap();
        if kind.is_file() {
            paths.push(path);
        } else if kind.is_dir() && !["target", ".git", ".dev"].contains(&name.as_str()) {
            walk(root, &path, paths);
        }
    }
}

/// A file as the checks' own tests make one.
#[cfg(test)]
pub fn sample(path: &str, text: &str) -> File {
    File {
        path: path.to_owned(),
        text: text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_finds_what_git_lists() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut walked = Vec::new();
        walk(root, "", &mut walked);
        for path in git_files(root).unwrap_or_default() {
            assert!(
                !root.join(&path).is_file() || walked.contains(&path),
                "{path} was not walked to"
            );
        }
    }

    #[test]
    fn a_word_stands_by_itself() {
        assert_eq!(words("now nowhere xnow now", "now").collect::<Vec<_>>(), [0, 17]);
    }
}
