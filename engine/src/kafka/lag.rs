//! How far a topic goes beyond what was read of it, by the statistics of the client library.

use std::collections::HashMap;

use super::report::{Partition, Report};

/// What a report says of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// The offset behind the last record that may be read.
    pub(super) end: i64,
    /// Where the group has come to, or else where fetching goes on. The library's own `consumer_lag` knows only the first,
    /// and so nothing of a group that never committed anything.
    pub(super) from: Option<i64>,
    /// Whether all that is there was fetched and handed over: what lies between the last record and the end are the marks
    /// of transactions, which nobody reads.
    pub(super) read: bool,
}

/// The partitions of this topic whose end is known, those too that others hold by now.
pub(super) fn looks(report: &Report, topic: &str) -> HashMap<i32, Look> {
    let known = |offset: Option<i64>| offset.filter(|offset| *offset >= 0);
    let look = |partition: &Partition| {
        let from = known(partition.committed_offset).or(known(partition.next_offset));
        let fetched = known(partition.next_offset) >= known(partition.ls_offset);
        let read = fetched && partition.fetchq_cnt == 0;
        known(partition.ls_offset).map(|end| Look { end, from, read })
    };
    let partitions = (report.topics.get(topic).into_iter()).flat_map(|topic| &topic.partitions);
    partitions
        .filter_map(|(number, of)| Some((*number, look(of)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_partition_and_what_was_read_of_it_are_known_or_left_out() {
        let report = br#"{"name": "lockgate#consumer-1", "topics": {
            "other": {"partitions": {"0": {"ls_offset": 8, "committed_offset": 1, "next_offset": 8}}},
            "mails": {"topic": "mails", "partitions": {
                "0": {"ls_offset": 12, "hi_offset": 12, "committed_offset": 5, "next_offset": 12, "consumer_lag": 7},
                "1": {"ls_offset": 9, "committed_offset": -1001, "next_offset": 9, "fetchq_cnt": 2, "consumer_lag": -1},
                "2": {"ls_offset": 3, "committed_offset": -1001, "next_offset": -1001},
                "3": {"ls_offset": -1001, "committed_offset": 7, "next_offset": -1001, "consumer_lag": -1},
                "-1": {"fetch_state": "none"}}}}}"#;
        let look = |end, from, read| Look { end, from, read };
        let expected = HashMap::from([
            (0, look(12, Some(5), true)),
            (1, look(9, Some(9), false)),
            (2, look(3, None, false)),
        ]);
        let looks = |report, topic| Report::read(report).map(|report| looks(&report, topic));
        assert_eq!(looks(report, "mails"), Some(expected));
        assert_eq!(looks(report, "unknown"), Some(HashMap::new()));
        assert_eq!(looks(b"{}", "mails"), Some(HashMap::new()));
        assert_eq!(looks(b"no json", "mails"), None);
    }
}
