//! A producer with a thread of its own that takes its reports.
//!
//! The crate's own one wakes ten times a second, and each time turns for the rest of a millisecond that its clock rounds away:
//! half of what a process uses that has nothing to do. A report wakes whoever polls, so how long it waits without one is
//! seen only by who ends it.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::BaseProducer;

use super::reports::Reports;

/// How long the thread waits for a report, and how long an end may wait for the thread.
const WAIT: Duration = Duration::from_secs(1);

/// A producer that is polled for as long as this lives. Not to be dropped by its own thread.
pub(super) struct Polled {
    producer: Arc<BaseProducer<Reports>>,
    stop: Arc<AtomicBool>,
    polling: Option<JoinHandle<()>>,
}

impl Polled {
    pub(super) fn start(config: &ClientConfig, reports: Reports) -> KafkaResult<Self> {
        let producer = Arc::new(BaseProducer::from_config_and_context(config, reports)?);
        let stop = Arc::new(AtomicBool::new(false));
        let (polled, stopped) = (producer.clone(), stop.clone());
        let polling = std::thread::Builder::new()
            .name("lockgate-kafka-reports".to_owned())
            .spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    polled.poll(WAIT);
                }
            });
        // The same as the library says when it gets no thread of its own.
        let polling = polling.map_err(|_| KafkaError::ClientCreation("no thread for reports".to_owned()))?;
        Ok(Self {
            producer,
            stop,
            polling: Some(polling),
        })
    }
}

impl Deref for Polled {
    type Target = BaseProducer<Reports>;

    fn deref(&self) -> &BaseProducer<Reports> {
        &self.producer
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(polling) = self.polling.take() {
            // Sinks that panic are caught where they are told.
            let _ = polling.join();
        }
    }
}
