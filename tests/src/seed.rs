//! What is drawn at random in tests can be drawn again.

/// `LOCKGATE_SEED`, else a number drawn now: said either way, so that what failed can be done again. The short suite
/// sets it, so that no change is refused for what chance drew; the long one draws.
pub fn seed() -> u64 {
    let seed = match std::env::var("LOCKGATE_SEED") {
        Ok(text) => text.parse().expect("LOCKGATE_SEED is a number"),
        Err(_) => rand::random(),
    };
    println!("LOCKGATE_SEED={seed}");
    seed
}
