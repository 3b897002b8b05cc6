//! Where a step stands in a workflow's code: the name under which its result is found again.

use std::fmt;

/// Longest name of a step, in bytes.
const LONGEST_NAME: usize = 100;

/// One place in the code: which one of its branch, and what it is called.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// The branch: empty for the workflow's own, else it ends with a slash.
    pub(crate) prefix: String,
    /// Counts the places of a branch in the order in which the code asks for them.
    pub(crate) ordinal: u32,
    /// What the code calls it.
    pub(crate) name: String,
}

impl Place {
    /// The place that a recorded path stands for; none for a path without an ordinal.
    pub(crate) fn of_path(path: &str) -> Option<Self> {
        let start = path.rfind('/').map_or(0, |slash| slash + 1);
        let (prefix, last) = path.split_at(start);
        let (ordinal, name) = last.split_once(':')?;
        Some(Self {
            prefix: prefix.to_owned(),
            ordinal: ordinal.parse().ok()?,
            name: name.to_owned(),
        })
    }

    /// The places of the joins and selects that a recorded path lies under, outermost first, each with its branch.
    pub(crate) fn above(path: &str) -> Vec<(Self, usize)> {
        // Each branch adds two parts, its place and its own number.
        let slashes: Vec<usize> = path.match_indices('/').map(|(at, _)| at).collect();
        let branches = slashes.chunks_exact(2).filter_map(|pair| {
            let number = path[pair[0] + 1..pair[1]].parse().ok()?;
            Some((Self::of_path(&path[..pair[0]])?, number))
        });
        branches.collect()
    }

    /// The prefix of the places of all branches of a join that stands here.
    pub(crate) fn branches(&self) -> String {
        format!("{self}/")
    }

    /// That of one of them.
    pub(crate) fn branch(&self, number: usize) -> String {
        format!("{self}/{number}/")
    }

    /// Why the name cannot be one, if it cannot.
    pub(crate) fn misnamed(&self) -> Option<String> {
        misnamed(&self.name)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}:{}", self.prefix, self.ordinal, self.name)
    }
}

/// Where it stands that the run undoes what it did, why, and in which order.
pub(crate) const UNDO: &str = "undo";

/// Where the row stands of what undoes a step.
pub(crate) fn undo_path(path: &str) -> String {
    format!("{UNDO}/{path}")
}

/// Whether a row belongs to what undoes steps, and not to a place of the code.
pub(crate) fn is_undo(path: &str) -> bool {
    path.strip_prefix(UNDO)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Why a name cannot be one of a step, a signal or a change, if it cannot.
pub(crate) fn misnamed(name: &str) -> Option<String> {
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Some(format!(
            "a name has 1 to {LONGEST_NAME} bytes, this one has {}",
            name.len()
        ));
    }
    name.contains(|letter: char| letter == '/' || letter.is_control())
        .then(|| format!("the name {name:?} has a slash or a control character"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn place(prefix: &str, ordinal: u32, name: &str) -> Place {
        Place {
            prefix: prefix.to_owned(),
            ordinal,
            name: name.to_owned(),
        }
    }

    #[test]
    fn a_path_and_its_place_are_the_same_thing() {
        for (place, path) in [
            (place("", 0, "reports"), "0:reports"),
            (place("", 12, "a:b"), "12:a:b"),
            (place("3:join/1/", 0, "charge"), "3:join/1/0:charge"),
        ] {
            assert_eq!(place.to_string(), path);
            assert_eq!(Place::of_path(path).unwrap(), place);
        }
        for path in ["v:change", "undo/x", ""] {
            assert_eq!(Place::of_path(path), None, "{path}");
        }
    }

    #[test]
    fn a_path_lies_under_the_joins_of_its_branches() {
        assert_eq!(Place::above("0:charge"), []);
        let inner = "2:join/1/0:join/3/5:charge";
        assert_eq!(
            Place::above(inner),
            [(place("", 2, "join"), 1), (place("2:join/1/", 0, "join"), 3)]
        );
        assert_eq!(place("2:join/1/", 0, "join").branch(3), "2:join/1/0:join/3/");
    }

    #[test]
    fn what_undoes_a_step_stands_beside_the_places_of_the_code() {
        assert_eq!(undo_path("2:select/1/0:charge"), "undo/2:select/1/0:charge");
        for path in [UNDO, "undo/0:charge", "undo/2:select/1/0:charge"] {
            assert!(is_undo(path), "{path}");
        }
        assert!(!is_undo("0:undo"));
    }

    #[test]
    fn names_that_would_break_a_path_are_refused() {
        assert_eq!(misnamed("charge the card: 2"), None);
        for name in ["", "a/b", "a\nb", &"x".repeat(101)] {
            assert!(misnamed(name).is_some(), "{name:?}");
        }
    }
}
