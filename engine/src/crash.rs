//! Arms one crash point: the process ends there as if the power had gone. Only in builds for the crash tests.

use std::sync::atomic::{AtomicU32, Ordering};

/// Reads `LOCKGATE_CRASH_AT=point` or `point:n` (at the n-th time) and arms that point.
pub fn arm() {
    let Ok(wanted) = std::env::var("LOCKGATE_CRASH_AT") else {
        return;
    };
    let (point, times) = match wanted.split_once(':') {
        Some((point, times)) => (point.to_owned(), times.parse().unwrap_or(1)),
        None => (wanted, 1),
    };
    let left = AtomicU32::new(times);
    let name = point.clone();
    let armed = fail::cfg_callback(point, move || {
        if left.fetch_sub(1, Ordering::SeqCst) == 1 {
            eprintln!("crash point {name}");
            std::process::abort();
        }
    });
    if let Err(error) = armed {
        eprintln!("crash point cannot be armed: {error}");
    }
}
