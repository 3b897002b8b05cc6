//! What the client library tells us, on its threads: delivery reports, errors, log lines.

use std::sync::Arc;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, DeliveryResult, Message as _};
use rdkafka::producer::ProducerContext;
use rdkafka::types::RDKafkaErrorCode;

use super::generation::{Generation, send_alone};
use super::report::Report;
use super::sight::Sight;
use super::verdict::{Verdict, verdict};
use crate::delivery::{Failure, Outcome, TopicTrouble};

/// Turns reports into outcomes.
pub(super) struct Reports {
    generation: Arc<Generation>,
    /// Whether these are reports of the producer that sends one message per request.
    alone: bool,
    /// Whether the producer still knows a broker.
    pub(super) sight: Sight,
}

impl Reports {
    pub(super) fn new(generation: Arc<Generation>, alone: bool) -> Reports {
        Reports {
            generation,
            alone,
            sight: Sight::default(),
        }
    }

    /// Settles a message that was not delivered, or gives it its one try alone.
    fn failed(&self, error: &KafkaError, message: &BorrowedMessage<'_>, key: usize) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        let outcome = match verdict(code) {
            Verdict::TryAlone(_) if !self.alone => match send_alone(&self.generation, message, key) {
                // Its ticket stays with us until the second report.
                Ok(()) => return,
                Err(error) => Outcome::Unknown(Failure {
                    code: self.generation.ending().unwrap_or("not_tried_alone"),
                    detail: format!("its request was turned down ({code:?}) and it could not be tried alone: {error}"),
                }),
            },
            Verdict::TryAlone(label) | Verdict::Refused(label) => refused(label, code),
            Verdict::Topic(trouble) => {
                self.generation.events.topic_trouble(message.topic(), trouble);
                unknown(trouble_label(trouble), code)
            }
            Verdict::Unknown(label @ ("purged" | "broker_error")) => {
                // Perhaps the error that ended the producer, reported before the error itself.
                self.trouble();
                unknown(self.generation.ending().unwrap_or(label), code)
            }
            Verdict::Unknown(label) => unknown(label, code),
            // Neither comes in a report; if one did, nothing would be known of the message.
            Verdict::Delivered | Verdict::Full => unknown("broker_error", code),
        };
        self.generation.settle(key, outcome);
    }

    /// Has the publisher look whether the producer failed for good.
    fn trouble(&self) {
        (self.generation.on_trouble)(self.generation.number);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, report: &DeliveryResult<'_>, key: usize) {
        match report {
            Ok(message) => {
                let outcome = Outcome::Delivered {
                    partition: message.partition(),
                    offset: message.offset(),
                };
                self.generation.settle(key, outcome);
            }
            Err((error, message)) => self.failed(error, message, key),
        }
    }
}

impl ClientContext for Reports {
    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else {
            return;
        };
        self.generation.note_error(code, reason);
        if code == RDKafkaErrorCode::AllBrokersDown {
            if self.generation.is_news() {
                tracing::warn!(name: "brokers_unreachable", reason, "no broker can be reached");
            }
            self.generation.events.all_brokers_down();
        } else {
            tracing::debug!(?code, reason, "the client library met an error");
        }
        self.trouble();
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let report = Report::read(statistics);
        if let Some(report) = report.as_ref().filter(|_| !self.alone) {
            self.generation.statistics.heard(report);
        }
        if self.sight.heard(report.as_ref()) {
            self.trouble();
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level, facility, line);
    }
}

/// For clients that only ask questions: their log lines go the same way.
pub(super) struct LogOnly;

impl ClientContext for LogOnly {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the client library met an error");
    }

    /// Those who set the interval for the producer get them from all clients; nothing is made of these.
    fn stats_raw(&self, _: &[u8]) {}

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level, facility, line);
    }
}

impl rdkafka::consumer::ConsumerContext for LogOnly {}

/// What the breaker is told, as a code for the message's record.
fn trouble_label(trouble: TopicTrouble) -> &'static str {
    match trouble {
        TopicTrouble::Missing => "topic_missing",
        TopicTrouble::NotAuthorised => "not_authorised",
    }
}

fn unknown(label: &'static str, code: RDKafkaErrorCode) -> Outcome {
    Outcome::Unknown(Failure {
        code: label,
        detail: describe(code),
    })
}

fn refused(label: &'static str, code: RDKafkaErrorCode) -> Outcome {
    Outcome::Refused(Failure {
        code: label,
        detail: describe(code),
    })
}

/// One line for people: the library's name for the code and its explanation.
pub(super) fn describe(code: RDKafkaErrorCode) -> String {
    format!("{code:?}: {code}")
}

/// The library retries for itself, so none of its lines is an error that someone must act on.
pub(super) fn log_line(level: RDKafkaLogLevel, facility: &str, line: &str) {
    // Said of every property that belongs to the other kind of client; users give one list for all.
    if facility == "CONFWARN" {
        return;
    }
    match level {
        RDKafkaLogLevel::Debug => tracing::trace!(target: "librdkafka", facility, line),
        RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice => tracing::debug!(target: "librdkafka", facility, line),
        _ => {
            tracing::warn!(name: "librdkafka_says", target: "librdkafka", facility, line, "a line of the client library");
        }
    }
}
