//! What the client library reports of itself (its `statistics.interval.ms`), as far as anything here looks at it.

use std::collections::HashMap;

use serde::Deserialize;

/// A report; what it does not say is nothing that could be blamed on a client. Times of brokers are in microseconds, throttling is in milliseconds.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Report {
    /// Messages that a producer holds, and their bytes.
    pub(super) msg_cnt: u64,
    pub(super) msg_size: u64,
    /// None: the report says nothing of brokers.
    pub(super) brokers: Option<HashMap<String, Broker>>,
    pub(super) topics: HashMap<String, Topic>,
    /// None: no consumer.
    pub(super) cgrp: Option<Group>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Broker {
    pub(super) source: Option<String>,
    pub(super) state: Option<String>,
    /// For how long it has been in that state, in microseconds; below nothing where it changed while the report was made.
    pub(super) stateage: Option<i64>,
    pub(super) rtt: Window,
    pub(super) int_latency: Window,
    pub(super) throttle: Window,
}

/// Of the values of the last interval.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Window {
    pub(super) cnt: u64,
    pub(super) p50: u64,
    pub(super) p99: u64,
    pub(super) max: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Group {
    pub(super) state: String,
    pub(super) join_state: String,
    pub(super) assignment_size: usize,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Topic {
    /// With one of number -1, which is none of the topic's.
    pub(super) partitions: HashMap<i32, Partition>,
}

/// Offsets that the library does not know are negative.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Partition {
    pub(super) fetch_state: Option<String>,
    pub(super) ls_offset: Option<i64>,
    pub(super) committed_offset: Option<i64>,
    pub(super) next_offset: Option<i64>,
    pub(super) fetchq_cnt: i64,
}

impl Report {
    /// `None`: it cannot be read.
    pub(super) fn read(report: &[u8]) -> Option<Self> {
        serde_json::from_slice(report).ok()
    }
}
