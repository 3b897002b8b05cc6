//! The ready-made `lockgate` binary.
fn main() {}
