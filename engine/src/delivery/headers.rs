//! The headers of a message in one piece of memory: they are made, kept and freed once per message, and seven small
//! pieces each cost more than all else that is done to it.

use std::fmt;

/// Names and values in the order in which they are written.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// For each header: length of the name, length of the value, name, value.
    bytes: Vec<u8>,
    count: usize,
}

/// Bytes of the two lengths before each header.
const LENGTHS: usize = 8;

impl Headers {
    /// No headers, with room for so many bytes of names and values in so many headers.
    #[must_use]
    pub fn with_capacity(headers: usize, bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(headers * LENGTHS + bytes),
            count: 0,
        }
    }

    /// Adds a header behind the others.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        // What is longer than 4 GiB fits no message; cutting its length would misread what follows it.
        let (Ok(name_length), Ok(value_length)) = (u32::try_from(name.len()), u32::try_from(value.len())) else {
            return;
        };
        self.bytes.extend_from_slice(&name_length.to_le_bytes());
        self.bytes.extend_from_slice(&value_length.to_le_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(value);
        self.count += 1;
    }

    /// Adds all of the others behind these.
    pub fn append(&mut self, others: &Headers) {
        self.bytes.extend_from_slice(&others.bytes);
        self.count += others.count;
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many bytes they take.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The value of the first header of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// Names and values in order.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.bytes }
    }
}

/// The headers one after the other.
#[derive(Clone)]
pub struct Iter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name_length, rest) = self.rest.split_first_chunk::<4>()?;
        let (value_length, rest) = rest.split_first_chunk::<4>()?;
        let (name, rest) = rest.split_at_checked(u32::from_le_bytes(*name_length) as usize)?;
        let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value_length) as usize)?;
        self.rest = rest;
        Some((std::str::from_utf8(name).ok()?, value))
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = (&'a str, &'a [u8]);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut headers = Self::default();
        for (name, value) in pairs {
            headers.push(name.as_ref(), value.as_ref());
        }
        headers
    }
}

impl fmt::Debug for Headers {
    /// Names only: values may say whom a message is about.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_list()
            .entries(self.iter().map(|(name, _)| name))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_in_order_with_empty_and_repeated_ones() {
        let pairs: [(&str, &[u8]); 4] = [("a", b"1"), ("", b""), ("a", b"\xff\0"), ("ü", b"last")];
        let headers: Headers = pairs.into_iter().collect();
        assert_eq!(headers.iter().collect::<Vec<_>>(), pairs);
        assert_eq!((headers.len(), headers.is_empty()), (4, false));
        assert_eq!(headers.get("a"), Some(b"1".as_slice()));
        assert_eq!(headers.get("none"), None);
    }

    #[test]
    fn appended_headers_follow_those_that_were_there() {
        let mut headers = Headers::with_capacity(2, 20);
        assert!(headers.is_empty() && headers.iter().next().is_none());
        headers.push("first", b"1");
        headers.append(&[("second", "2")].into_iter().collect());
        assert_eq!(
            headers.iter().collect::<Vec<_>>(),
            [("first", b"1".as_slice()), ("second", b"2".as_slice())]
        );
        assert_eq!(format!("{headers:?}"), r#"["first", "second"]"#, "values are not shown");
    }
}
