//! Tokens as they are made and hashed. High entropy: a plain hash is enough, and equal hashes tell nobody anything.

use rand::RngExt;
use sha2::{Digest, Sha256};

use crate::postgres::TokenHash;

/// What a token may allow.
pub(crate) const ROLES: [&str; 3] = ["send", "operate", "read"];

/// By which secret scanners and people know what leaked.
const PREFIX: &str = "lockgate_";
/// Hexadecimal digits of 32 random bytes.
const DIGITS: usize = 64;

/// A token that nobody can guess.
pub(crate) fn fresh_token() -> String {
    let bytes: [u8; DIGITS / 2] = rand::rng().random();
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    PREFIX.to_owned() + &digits.collect::<String>()
}

/// What stands for a token in the table.
pub(crate) fn token_hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// Whether a text can be a token at all; others are refused without asking the database.
pub(super) fn is_token(text: &str) -> bool {
    let digits = text.strip_prefix(PREFIX).unwrap_or_default();
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    digits.len() == DIGITS && digits.bytes().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_new_each_time_and_known_by_their_shape() {
        let (one, other) = (fresh_token(), fresh_token());
        assert!(is_token(&one) && is_token(&other) && one != other);
        assert!(!is_token(&one[1..]) && !is_token(&format!("{one}0")) && !is_token(""));
        assert_eq!(token_hash("abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
