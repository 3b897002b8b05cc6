//! Whether a client still knows of any broker.
//!
//! A broker that is fenced answers that there are none. The library then forgets all of them, those it was configured with
//! too, and may never look for them again (librdkafka 2.12, its issue 5301): the client is alive, tries nothing, says
//! nothing, and only one that is made anew finds them. Its statistics show it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::Deserialize;

/// Reports in a row without a broker after which a client is lost; a moment without one is nothing.
const LOST_AFTER: u32 = 2;

/// What of the library's statistics is looked at.
#[derive(Deserialize)]
struct Report {
    brokers: HashMap<String, Broker>,
}

#[derive(Deserialize)]
struct Broker {
    source: String,
}

/// How many reports in a row knew no broker.
#[derive(Debug, Default)]
pub(super) struct Sight {
    blind: AtomicU32,
}

impl Sight {
    /// Takes in a report; answers whether the client is lost.
    pub(super) fn heard(&self, report: &[u8]) -> bool {
        if knows_none(report) {
            self.blind.fetch_add(1, Ordering::Relaxed);
        } else {
            self.blind.store(0, Ordering::Relaxed);
        }
        self.is_lost()
    }

    pub(super) fn is_lost(&self) -> bool {
        self.blind.load(Ordering::Relaxed) >= LOST_AFTER
    }
}

/// A logical broker is a role, such as the group's coordinator, that a known one would play.
fn knows_none(report: &[u8]) -> bool {
    fail::fail_point!("kafka.blind", |_| true);
    let is_known = |broker: &Broker| matches!(broker.source.as_str(), "configured" | "learned");
    serde_json::from_slice::<Report>(report).is_ok_and(|report| !report.brokers.values().any(is_known))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: &[u8] = br#"{"brokers": {"GroupCoordinator": {"nodeid": -1, "source": "logical", "state": "INIT"}}}"#;

    #[test]
    fn a_client_is_lost_when_it_twice_knew_no_broker() {
        let sight = Sight::default();
        let down = br#"{"brokers": {"a:9092/bootstrap": {"source": "configured", "state": "DOWN"}}}"#;
        let learned = br#"{"brokers": {"a:9092/1": {"source": "learned"}, "x": {"source": "logical"}}}"#;
        for report in [&down[..], learned, b"{}", b"no json", LOST, learned, LOST] {
            assert!(!sight.heard(report), "{}", String::from_utf8_lossy(report));
        }
        assert!(sight.heard(LOST) && sight.is_lost());
        assert!(!sight.heard(down), "it knows one again");
        assert!(!sight.heard(br#"{"brokers": {}}"#) && sight.heard(br#"{"brokers": {}}"#));
    }
}
