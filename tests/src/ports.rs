//! Ports for servers that take the number of one.

use std::fs::File;
use std::net::TcpListener;
use std::sync::Mutex;

/// Where the kernel takes its own from, when nothing else is known.
const EPHEMERAL: u16 = 32_768;

/// A port of this machine for a server that is started in a moment. The kernel gives it to nobody, for it takes none of these
/// by itself, and no other test does while this process lives.
///
/// # Panics
/// There is none.
#[must_use]
pub fn free_port() -> u16 {
    // Whoever holds a port's file holds the port.
    static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = range.split_whitespace().next().and_then(|first| first.parse().ok());
    let end: u16 = first.unwrap_or(EPHEMERAL).max(20_000);
    let folder = std::env::temp_dir().join("lockgate-ports");
    std::fs::create_dir_all(&folder).unwrap();
    for _ in 0..1_000 {
        let port = 10_000 + u16::try_from(uuid::Uuid::new_v4().as_u128() % u128::from(end - 10_000)).unwrap();
        let file = File::create(folder.join(port.to_string())).unwrap();
        if file.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            HELD.lock().unwrap().push(file);
            return port;
        }
    }
    panic!("no free port on 127.0.0.1");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let mut ports: Vec<u16> = (0..100).map(|_| free_port()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 100);
    }
}
