//! Lines of a body that arrives in pieces, in pages of bounded size.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use memchr::{memchr, memchr_iter};

use super::commands::LARGEST_REQUEST;

/// Most lines of a page.
const PAGE_LINES: usize = 1000;
/// Most bytes of a page, but for its last line.
const PAGE_BYTES: usize = 1 << 20;

/// What comes next of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// Whole lines, each with its end but perhaps for the last one of the body. One that is too large may be among them
    /// when it had arrived at once.
    Lines(Bytes),
    /// One line that was larger than a request may be; it was thrown away.
    TooLarge,
}

/// Cuts a body into pages. Holds one page and what arrived with its end.
pub(super) struct Lines {
    body: Body,
    /// How long its next piece may take.
    arrival: Duration,
    held: BytesMut,
    /// How much of `held` has been searched, and how many lines end there.
    searched: usize,
    ends: usize,
    last_end: usize,
    /// In the middle of a line that is too large.
    skipping: bool,
    over: bool,
}

impl Lines {
    pub(super) fn new(body: Body, arrival: Duration) -> Self {
        Self {
            body,
            arrival,
            held: BytesMut::new(),
            searched: 0,
            ends: 0,
            last_end: 0,
            skipping: false,
            over: false,
        }
    }

    /// The next page; none: the body is over, broke off, or nothing of it came for a long time. Lines that have arrived
    /// do not wait for those that have not.
    pub(super) async fn next(&mut self) -> Option<Page> {
        loop {
            if let Some(page) = self.cut() {
                return Some(page);
            }
            if self.over {
                return self.rest();
            }
            let frame = tokio::select! {
                biased;
                frame = self.body.frame() => frame,
                () = std::future::ready(()), if self.ends > 0 => return Some(self.take()),
                () = tokio::time::sleep(self.arrival) => None,
            };
            match frame {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.held.extend_from_slice(data);
                    }
                }
                Some(Err(_)) | None => self.over = true,
            }
        }
    }

    /// A full page, or the end of a line that is too large.
    fn cut(&mut self) -> Option<Page> {
        if self.skipping {
            let end = memchr(b'\n', &self.held);
            self.forget(end.map_or(self.held.len(), |end| end + 1));
            end?;
            self.skipping = false;
            return Some(Page::TooLarge);
        }
        for end in memchr_iter(b'\n', &self.held[self.searched..]) {
            self.ends += 1;
            self.last_end = self.searched + end + 1;
            if self.ends == PAGE_LINES || self.last_end >= PAGE_BYTES {
                return Some(self.take());
            }
        }
        self.searched = self.held.len();
        if self.held.len() - self.last_end > LARGEST_REQUEST {
            if self.ends > 0 {
                return Some(self.take());
            }
            self.skipping = true;
            return self.cut();
        }
        None
    }

    /// What is left when the body is over.
    fn rest(&mut self) -> Option<Page> {
        if std::mem::take(&mut self.skipping) {
            return Some(Page::TooLarge);
        }
        self.last_end = self.held.len();
        (self.last_end > 0).then(|| self.take())
    }

    fn take(&mut self) -> Page {
        let page = self.held.split_to(self.last_end).freeze();
        self.forget(0);
        Page::Lines(page)
    }

    fn forget(&mut self, bytes: usize) {
        let _ = self.held.split_to(bytes);
        (self.searched, self.ends, self.last_end) = (0, 0, 0);
    }
}

/// The lines of a page, without their ends.
pub(super) fn lines(page: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = page;
    std::iter::from_fn(move || {
        let (line, behind) = match memchr(b'\n', rest) {
            Some(end) => (&rest[..end], &rest[end + 1..]),
            None if rest.is_empty() => return None,
            None => (rest, &rest[rest.len()..]),
        };
        rest = behind;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::convert::Infallible;

    use futures::stream;

    use super::*;

    /// All lines of a body that arrives in pieces of this size; none for one that is too large.
    async fn read(text: &[u8], piece: usize) -> Vec<Option<Vec<u8>>> {
        let pieces: Vec<_> = text.chunks(piece).map(Bytes::copy_from_slice).collect();
        let body = Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, Infallible>)));
        let mut pages = Lines::new(body, Duration::from_secs(30));
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            match page {
                Page::Lines(page) => {
                    let fits = |line: &&[u8]| line.len() <= LARGEST_REQUEST;
                    let of_page: Vec<_> = lines(&page)
                        .map(|line| Some(line).filter(fits).map(<[u8]>::to_vec))
                        .collect();
                    assert!(of_page.len() <= PAGE_LINES && page.len() <= PAGE_BYTES + LARGEST_REQUEST + 1);
                    found.extend(of_page);
                }
                Page::TooLarge => found.push(None),
            }
        }
        found
    }

    #[tokio::test]
    async fn lines_are_the_same_however_the_body_is_cut() {
        let mut text = b"one\r\n\ntwo\n".to_vec();
        let mut wanted = vec![Some(b"one".to_vec()), Some(Vec::new()), Some(b"two".to_vec())];
        for number in 0..2500 {
            text.extend(format!("{number}\n").bytes());
            wanted.push(Some(number.to_string().into_bytes()));
        }
        text.extend(std::iter::repeat_n(b'x', LARGEST_REQUEST + 1));
        text.extend(b"\nafter it");
        wanted.extend([None, Some(b"after it".to_vec())]);
        for piece in [1, 7, 4096, 100_000, text.len()] {
            assert!(read(&text, piece).await == wanted, "in pieces of {piece}");
        }
        let unended = vec![b'x'; LARGEST_REQUEST * 3];
        assert_eq!(read(&unended, 1000).await, [None]);
        assert_eq!(read(b"", 1).await, []);
    }

    #[tokio::test]
    async fn large_lines_make_small_pages() {
        let mut line = vec![b'x'; LARGEST_REQUEST];
        line.push(b'\n');
        let found = read(&line.repeat(40), 64 << 10).await;
        assert_eq!(found.len(), 40);
        assert!(found.iter().all(|line| line.as_ref().unwrap().len() == LARGEST_REQUEST));
    }
}
