//! The numbers of the client library that are told, of the many that it reports.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::report::{Broker, Report, Window};
use crate::telemetry::catalogue::{
    KAFKA_BROKER_QUEUEING, KAFKA_BROKER_RTT, KAFKA_QUEUE_MESSAGES, KAFKA_QUEUE_SIZE, KAFKA_THROTTLE, MetricDef,
};
use crate::telemetry::closed::{Closed, Quantile};
use crate::telemetry::{Watching, meters};

/// Places of the numbers.
#[derive(Clone, Copy)]
enum Number {
    Messages,
    Bytes,
    RttMedian,
    RttMost,
    QueueingMedian,
    QueueingMost,
    Throttle,
}

const NUMBERS: usize = 7;

/// The numbers of the last report, told until this is dropped.
pub(super) struct Statistics {
    numbers: Arc<[AtomicU64; NUMBERS]>,
    _watching: Vec<Watching>,
}

impl Statistics {
    pub(super) fn told() -> Self {
        let numbers: Arc<[AtomicU64; NUMBERS]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(f64::NAN.to_bits())));
        let (median, most) = (Quantile::Median.text(), Quantile::Most.text());
        let told: [(&'static MetricDef, &[&str], Number); NUMBERS] = [
            (&KAFKA_QUEUE_MESSAGES, &[], Number::Messages),
            (&KAFKA_QUEUE_SIZE, &[], Number::Bytes),
            (&KAFKA_BROKER_RTT, &[median], Number::RttMedian),
            (&KAFKA_BROKER_RTT, &[most], Number::RttMost),
            (&KAFKA_BROKER_QUEUEING, &[median], Number::QueueingMedian),
            (&KAFKA_BROKER_QUEUEING, &[most], Number::QueueingMost),
            (&KAFKA_THROTTLE, &[], Number::Throttle),
        ];
        let watch = |(def, values, number): (&'static MetricDef, &[&str], Number)| {
            let numbers = numbers.clone();
            meters().watch(def, values, move || read(&numbers, number))
        };
        Self {
            _watching: told.into_iter().map(watch).collect(),
            numbers,
        }
    }

    /// Takes in a report of the library.
    pub(super) fn heard(&self, report: &Report) {
        let worst = |window: fn(&Broker) -> &Window, value: fn(&Window) -> u64, unit: f64| {
            let windows = report
                .brokers
                .iter()
                .flat_map(HashMap::values)
                .map(window)
                .filter(|window| window.cnt > 0);
            windows.map(value).max().map_or(f64::NAN, |worst| worst as f64 / unit)
        };
        const MICROS: f64 = 1e6;
        const MILLIS: f64 = 1e3;
        for (number, value) in [
            (Number::Messages, report.msg_cnt as f64),
            (Number::Bytes, report.msg_size as f64),
            (
                Number::RttMedian,
                worst(|broker| &broker.rtt, |window| window.p50, MICROS),
            ),
            (
                Number::RttMost,
                worst(|broker| &broker.rtt, |window| window.p99, MICROS),
            ),
            (
                Number::QueueingMedian,
                worst(|broker| &broker.int_latency, |window| window.p50, MICROS),
            ),
            (
                Number::QueueingMost,
                worst(|broker| &broker.int_latency, |window| window.p99, MICROS),
            ),
            (
                Number::Throttle,
                worst(|broker| &broker.throttle, |window| window.max, MILLIS),
            ),
        ] {
            self.numbers[number as usize].store(value.to_bits(), Ordering::Relaxed);
        }
    }
}

/// None: nothing was heard yet, or nothing was measured.
fn read(numbers: &[AtomicU64; NUMBERS], number: Number) -> Option<f64> {
    Some(f64::from_bits(numbers[number as usize].load(Ordering::Relaxed))).filter(|value| !value.is_nan())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_broker_counts_and_what_was_not_measured_is_not_told() {
        let statistics = Statistics::told();
        let told = |number| read(&statistics.numbers, number);
        assert_eq!(told(Number::Messages), None);
        let report = Report::read(
            br#"{"name": "lockgate#producer-1", "msg_cnt": 7, "msg_size": 900, "brokers": {
                "a:9092/1": {"rtt": {"cnt": 3, "p50": 1500, "p99": 4000}, "int_latency": {"cnt": 0, "p50": 9},
                             "throttle": {"cnt": 2, "max": 250}},
                "b:9092/2": {"rtt": {"cnt": 1, "p50": 2500, "p99": 3000}}
            }}"#,
        );
        statistics.heard(&report.unwrap_or_default());
        assert_eq!((told(Number::Messages), told(Number::Bytes)), (Some(7.0), Some(900.0)));
        assert_eq!(
            (told(Number::RttMedian), told(Number::RttMost)),
            (Some(0.0025), Some(0.004))
        );
        assert_eq!(
            (told(Number::QueueingMedian), told(Number::Throttle)),
            (None, Some(0.25))
        );
        statistics.heard(&Report::default());
        assert_eq!((told(Number::Messages), told(Number::Throttle)), (Some(0.0), None));
    }
}
