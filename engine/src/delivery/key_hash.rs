//! Partitioning keys for what must not be read from a key: a keyed hash, so that nobody finds the address by trying.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Hashes what is personal into a key; without a secret it makes none.
#[derive(Clone, Default)]
pub struct KeyHash(Option<Hmac<Sha256>>);

impl KeyHash {
    /// Makes no keys: commands without a user's id then go to any partition.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Hashes with this secret. Replicas with another secret make other keys, and so lose the order between theirs.
    #[must_use]
    pub fn with_secret(secret: &[u8]) -> Self {
        // Any length of key is taken.
        Self(Hmac::new_from_slice(secret).ok())
    }

    /// The key of a personal value: 16 bytes of the hash as 32 hexadecimal digits.
    #[must_use]
    pub fn of(&self, personal: &[u8]) -> Option<Vec<u8>> {
        let mut hash = self.0.clone()?;
        hash.update(personal);
        let bytes = hash.finalize().into_bytes();
        let digits = bytes[..16].iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
        Some(digits.map(|digit| b"0123456789abcdef"[usize::from(digit)]).collect())
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "KeyHash(secret)"
        } else {
            "KeyHash(none)"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first 16 bytes of HMAC-SHA-256 by the second test case of RFC 4231.
    #[test]
    fn the_hash_is_the_standard_one_and_shows_nothing() {
        let hash = KeyHash::with_secret(b"Jefe");
        let key = hash.of(b"what do ya want for nothing?");
        assert_eq!(key.as_deref(), Some(b"5bdcc146bf60754e6a042426089575c7".as_slice()));
        assert_eq!(format!("{hash:?}"), "KeyHash(secret)");
        assert_eq!(KeyHash::none().of(b"ada@example.org"), None);
    }
}
