//! Whether a client is of no more use, by its own statistics: it is alive, says nothing, and only one that is made anew goes
//! on.
//!
//! A broker that is fenced answers that there are none. The library then forgets all of them, those it was configured with
//! too, and may never look for them again (librdkafka 2.12, its issue 5301).
//!
//! A consumer asks its group's coordinator where to begin. Where that one is no coordinator any more, or refuses, the
//! library asks nobody again: the partitions are the consumer's, and nothing fetches them (its issue 5586).
//!
//! Who has something to ask and no connection has some broker tried each second, unless the library counts a connection that
//! there is no more: then it knows brokers, and tries none. That none is tried just now says nothing: a try that is refused is
//! over within a millisecond, and until the next one all is as before the first.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::report::{Broker, Partition, Report};

/// Reports in a row without a broker after which a client is lost; a moment without one is nothing.
const LOST_AFTER: u32 = 2;
/// For how long a consumer may have partitions that it does not fetch, as where to begin is asked for meanwhile, and a client
/// may try no broker.
const STANDS_AFTER: Duration = Duration::from_secs(10);

impl Report {
    /// A logical broker is a role, such as the group's coordinator, that a known one would play.
    fn knows_none(&self) -> bool {
        fail::fail_point!("kafka.blind", |_| true);
        (self.brokers.as_ref()).is_some_and(|brokers| brokers.values().all(Broker::is_role))
    }

    /// Whether it has something to ask or to send, and of the brokers that it knows is connected to none and tries none.
    fn tries_none(&self) -> bool {
        let waits = match &self.cgrp {
            Some(group) => !matches!(group.state.as_str(), "" | "up" | "term"),
            None => self.msg_cnt > 0,
        };
        waits && (self.brokers.as_ref()).is_some_and(|brokers| brokers.values().all(Broker::is_left_alone))
    }

    /// Whether it is a member in good standing with more partitions than it fetches. A paused one is fetched.
    fn stands(&self) -> bool {
        let Some(group) = &self.cgrp else { return false };
        let is_fetched =
            |part: &&Partition| !matches!(part.fetch_state.as_deref(), Some("none" | "stopping" | "stopped"));
        let partitions = self.topics.values().flat_map(|topic| topic.partitions.values());
        (group.state == "up" && group.join_state == "steady")
            && partitions.filter(is_fetched).count() < group.assignment_size
    }
}

impl Broker {
    fn is_role(&self) -> bool {
        let source = self.source.as_deref();
        source.is_some_and(|source| !matches!(source, "configured" | "learned"))
    }

    /// Whether nobody has tried it for long: each try goes through other states.
    fn is_left_alone(&self) -> bool {
        let long = i64::try_from(STANDS_AFTER.as_micros()).unwrap_or(i64::MAX);
        self.is_role() || (self.state.as_deref() == Some("INIT") && self.stateage.is_some_and(|age| age >= long))
    }
}

/// Why a client is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// It forgot all brokers.
    Blind,
    /// It has partitions and does not fetch them.
    Stands,
    /// It knows brokers and connects to none.
    Idle,
}

impl Lost {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Blind => "it forgot all brokers",
            Self::Stands => "it does not fetch partitions that it has",
            Self::Idle => "it tries none of the brokers that it knows",
        }
    }
}

/// What the reports said so far.
#[derive(Debug, Default)]
struct Seen {
    /// So many in a row knew no broker.
    blind: u32,
    /// Since then it stands or is idle.
    since: Option<(Lost, Instant)>,
    lost: Option<Lost>,
}

/// What a client's reports say of it.
#[derive(Debug, Default)]
pub(super) struct Sight(Mutex<Seen>);

impl Sight {
    /// Takes in a report, `None` for one that cannot be read; answers whether the client is lost.
    pub(super) fn heard(&self, report: Option<&Report>) -> bool {
        self.looked_at(report, Instant::now()).is_some()
    }

    /// Why the client is of no more use, if it is not.
    pub(super) fn lost(&self) -> Option<Lost> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).lost
    }

    fn looked_at(&self, report: Option<&Report>, now: Instant) -> Option<Lost> {
        let is_blind = report.is_some_and(Report::knows_none);
        let stands = report.and_then(|report| {
            let idle = report.tries_none().then_some(Lost::Idle);
            idle.or(report.stands().then_some(Lost::Stands))
        });
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.blind = if is_blind { seen.blind + 1 } else { 0 };
        let since = seen.since.filter(|(why, _)| Some(*why) == stands);
        seen.since = stands.map(|why| since.unwrap_or((why, now)));
        let stood = seen.since.filter(|(_, since)| now - *since >= STANDS_AFTER);
        let blind = (seen.blind >= LOST_AFTER).then_some(Lost::Blind);
        seen.lost = blind.or(stood.map(|(why, _)| why));
        seen.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: &[u8] = br#"{"brokers": {"GroupCoordinator": {"nodeid": -1, "source": "logical", "state": "INIT"}}}"#;

    #[test]
    fn a_client_is_lost_when_it_twice_knew_no_broker() {
        let sight = Sight::default();
        let heard = |report: &[u8]| sight.heard(Report::read(report).as_ref());
        let down = br#"{"brokers": {"a:9092/bootstrap": {"source": "configured", "state": "DOWN"}}}"#;
        let learned = br#"{"brokers": {"a:9092/1": {"source": "learned"}, "x": {"source": "logical"}}}"#;
        let unsaid = br#"{"brokers": {"a:9092/1": {}}}"#;
        for report in [
            &down[..],
            learned,
            b"{}",
            b"no json",
            unsaid,
            unsaid,
            LOST,
            learned,
            LOST,
        ] {
            assert!(!heard(report), "{}", String::from_utf8_lossy(report));
        }
        assert!(heard(LOST) && sight.lost() == Some(Lost::Blind));
        assert!(!heard(down), "it knows one again");
        assert!(!heard(br#"{"brokers": {}}"#) && heard(br#"{"brokers": {}}"#));
    }

    /// Takes in a report so many seconds after it began.
    fn after(sight: &Sight) -> impl Fn(u64, &str) -> Option<Lost> {
        let begin = Instant::now();
        move |seconds, report| {
            let report = Report::read(report.as_bytes());
            sight.looked_at(report.as_ref(), begin + Duration::from_secs(seconds))
        }
    }

    fn member(join_state: &str, fetch_states: [&str; 2]) -> String {
        let [first, second] = fetch_states;
        format!(
            r#"{{"brokers": {{"a:9092/1": {{"source": "learned"}}}},
                "topics": {{"t": {{"partitions": {{
                    "0": {{"fetch_state": "{first}"}}, "1": {{"fetch_state": "{second}"}},
                    "-1": {{"fetch_state": "none"}}}}}}}},
                "cgrp": {{"state": "up", "join_state": "{join_state}", "assignment_size": 2}}}}"#
        )
    }

    #[test]
    fn a_member_that_does_not_fetch_all_that_it_has_is_lost_after_a_while() {
        let sight = Sight::default();
        let after = after(&sight);
        let stands = member("steady", ["active", "stopped"]);
        for (at, report) in [
            (0, member("steady", ["none", "none"])),
            (9, member("steady", ["active", "offset-wait"])),
            (20, stands.clone()),
            (29, stands.clone()),
            (30, member("wait-sync", ["stopped", "stopped"])),
            (31, stands.clone()),
            (40, stands.clone()),
        ] {
            assert_eq!(after(at, &report), None, "{at}: {report}");
        }
        assert_eq!(after(41, &stands), Some(Lost::Stands));
        assert_eq!(sight.lost(), Some(Lost::Stands));
        assert_eq!(after(42, &member("steady", ["active", "active"])), None);
    }

    #[test]
    fn a_client_that_waits_and_tries_no_broker_is_lost_after_a_while() {
        let sight = Sight::default();
        let after = after(&sight);
        let brokers = |state: &str| {
            format!(
                r#""brokers": {{"a:9092/1": {{"source": "learned", "state": "{state}", "stateage": 10000000}},
                                "GroupCoordinator": {{"source": "logical", "state": "TRY_CONNECT"}}}}"#
            )
        };
        let of_group = |state: &str, broker: &str| {
            let group = format!(r#""cgrp": {{"state": "{state}", "join_state": "init", "assignment_size": 0}}"#);
            format!("{{{}, {group}}}", brokers(broker))
        };
        let holding = |messages: u32, broker: &str| format!(r#"{{"msg_cnt": {messages}, {}}}"#, brokers(broker));
        for (at, report) in [
            (0, of_group("query-coord", "INIT")),
            (9, of_group("query-coord", "TRY_CONNECT")),
            (11, of_group("up", "INIT")),
            (22, of_group("query-coord", "INIT")),
            (31, of_group("wait-coord", "INIT")),
        ] {
            assert_eq!(after(at, &report), None, "{at}: {report}");
        }
        assert_eq!(after(32, &of_group("query-coord", "INIT")), Some(Lost::Idle));
        for (at, report) in [
            (33, holding(0, "INIT")),
            (44, holding(3, "INIT")),
            (53, holding(3, "UP")),
            (54, holding(3, "INIT")),
        ] {
            assert_eq!(after(at, &report), None, "{at}: {report}");
        }
        assert_eq!(after(64, &holding(3, "INIT")), Some(Lost::Idle));
        // Whose brokers refuse it is tried time and again.
        let refused = of_group("query-coord", "INIT").replace("10000000", "400000");
        for at in [70, 85, 100] {
            assert_eq!(after(at, &refused), None, "{at}");
        }
    }
}
