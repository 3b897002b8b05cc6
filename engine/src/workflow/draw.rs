//! What a workflow may draw: random values that are the same in every replay and need no record.

use rand::distr::{Distribution, StandardUniform};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

/// A seed of its own for each place of each chain of runs.
fn seed(origin: Uuid, path: &str) -> [u8; 32] {
    Sha256::new()
        .chain_update(origin.as_bytes())
        .chain_update(path.as_bytes())
        .finalize()
        .into()
}

/// A UUIDv8 of the place.
pub(super) fn uuid(origin: Uuid, path: &str) -> Uuid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&seed(origin, path)[..16]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

/// A random value of the place.
pub(super) fn random<T>(origin: Uuid, path: &str) -> T
where
    StandardUniform: Distribution<T>,
{
    StdRng::from_seed(seed(origin, path)).random()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run may be replayed by a binary that was built years later: what it draws must not have changed.
    #[test]
    fn what_a_place_draws_is_pinned() {
        let origin = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
        assert_eq!(
            uuid(origin, "0:uuid").to_string(),
            "a336d9ec-7ce4-840a-9e11-cafa6214e9a3"
        );
        assert_eq!(random::<u64>(origin, "1:random"), 11_366_172_670_410_017_223);
        assert_ne!(uuid(origin, "0:uuid"), uuid(origin, "1:uuid"));
        assert_ne!(uuid(origin, "0:uuid"), uuid(Uuid::nil(), "0:uuid"));
    }
}
