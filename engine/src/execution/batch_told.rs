//! What is told of the work on a batch: counts and times of its workflow, and a span where its run's trace is recorded.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use opentelemetry::KeyValue;

use super::fan_outs::KnownFanOut;
use crate::lifecycle::{Batch, BatchOutcome};
use crate::telemetry::catalogue::{
    BATCH_END, BATCH_ITEMS, BATCH_SEQ, DELIVERED, HAND_BACK_REASON, MESSAGE_COUNT, MESSAGING_OPERATION,
    MESSAGING_SYSTEM, MESSAGING_TYPE, REFUSED, ROWS, RUN_ID, SEND, SKIPPED, STEP_PATH, TOKEN, TOPIC, UNKNOWN, VANISHED,
    WORKFLOW,
};
use crate::telemetry::closed::{BatchEnd, Closed, HandBackWhy, ItemEnd, LeaseKind};
use crate::telemetry::{Spanned, TraceContext, WorkflowMeter, meters};

/// So many batches of a run each have a span; a trace with one for each of a million would be of no use.
const ALL: i32 = 1_000;
/// Of the others one in so many has.
const ONE_IN: i32 = 16;

/// The work on a batch that is under way.
pub(super) struct BatchTold {
    began: Instant,
    meter: Arc<WorkflowMeter>,
    span: Spanned,
    /// What its messages say they come from: with nobody to tell of it, whoever started its run.
    context: Option<TraceContext>,
    /// It has a span only if it does not end as it should.
    passed_over: bool,
}

impl BatchTold {
    /// A batch that was asked for then; nothing is told of the workflow where its code was not reached.
    pub(super) fn begin(batch: &Batch, asked: Instant, known: Option<&KnownFanOut>) -> Self {
        let claim = &batch.claim;
        let Some(known) = known else {
            return Self {
                began: asked,
                meter: meters().workflow(""),
                span: Spanned::default(),
                context: None,
                passed_over: true,
            };
        };
        let (root, own) = (known.trace.root(), known.trace.batch(claim.seq, claim.token));
        let passed_over = is_passed_over(claim.seq);
        let mut span = Spanned::begin(&SEND, "", own, Some(root.span_id()));
        if span.is_on() {
            span.since(SystemTime::now() - asked.elapsed());
            span.set(&RUN_ID, claim.run.to_string());
            span.set(&WORKFLOW, known.run.workflow.clone());
            span.set(&STEP_PATH, batch.step.clone());
            span.set(&BATCH_SEQ, i64::from(claim.seq));
            span.set(&TOKEN, claim.token);
            span.set(&BATCH_ITEMS, batch.ids.len() as i64);
            span.set(&MESSAGING_SYSTEM, "kafka");
            span.set(&MESSAGING_OPERATION, "send");
            span.set(&MESSAGING_TYPE, "send");
        }
        Self {
            began: asked,
            meter: known.meter.clone(),
            span,
            context: match Spanned::are_made() {
                true if passed_over => Some(root),
                true => Some(own),
                false => known.trace.given(),
            },
            passed_over,
        }
    }

    /// What its messages say they come from, and its source runs within.
    pub(super) fn context(&self) -> Option<TraceContext> {
        self.context
    }

    /// What the verbs of the store are within.
    pub(super) fn recorded(&self) -> Option<TraceContext> {
        self.span.context().filter(|_| !self.passed_over)
    }

    /// A page of its rows was read, or could not be.
    pub(super) fn read(&mut self, asked: usize, began: Instant, failed: bool) {
        self.meter.source_read(began.elapsed(), failed);
        if self.span.is_on() {
            self.span.event("read", vec![KeyValue::new(ROWS.name, asked as i64)]);
        }
    }

    /// Something happened to it.
    pub(super) fn event(&mut self, name: &'static str) {
        self.span.event(name, Vec::new());
    }

    /// So many messages were sent, all to one topic, or to several.
    pub(super) fn sent(&mut self, topic: Option<&str>, messages: usize) {
        if !self.span.is_on() {
            return;
        }
        if let Some(topic) = topic {
            self.span.name(topic);
            self.span.set(&TOPIC, topic.to_owned());
        }
        self.span.set(&MESSAGE_COUNT, messages as i64);
    }

    /// It is finished.
    pub(super) fn finished(mut self, outcome: &BatchOutcome) {
        let refused = outcome.undelivered.iter().filter(|item| item.refused).count();
        for (end, attribute, items) in [
            (ItemEnd::Delivered, &DELIVERED, outcome.delivered),
            (ItemEnd::Refused, &REFUSED, refused),
            (ItemEnd::Unknown, &UNKNOWN, outcome.undelivered.len() - refused),
            (ItemEnd::Skipped, &SKIPPED, outcome.skipped.len()),
            (ItemEnd::Vanished, &VANISHED, outcome.vanished.len()),
        ] {
            self.meter.items(end, items);
            if self.span.is_on() {
                self.span.set(attribute, items as i64);
            }
        }
        self.passed_over &= outcome.undelivered.is_empty();
        self.event("finished");
        self.end(BatchEnd::Finished);
    }

    /// It was given back.
    pub(super) fn handed_back(mut self, reason: &str) {
        let why = HandBackWhy::of(reason);
        meters().batch_handed_back(why);
        self.span.set(&HAND_BACK_REASON, why.text());
        self.passed_over = false;
        self.end(BatchEnd::HandedBack);
    }

    /// It is somebody else's.
    pub(super) fn lost(mut self) {
        meters().leases_lost(LeaseKind::Batch, 1);
        self.passed_over = false;
        self.span.failed("lost");
        self.end(BatchEnd::Lost);
    }

    /// Its run fails for it.
    pub(super) fn broken(mut self, end: BatchEnd) {
        self.passed_over = false;
        self.span.failed(end.text());
        self.end(end);
    }

    fn end(mut self, end: BatchEnd) {
        self.meter.batch_ended(end, self.began.elapsed());
        if !self.passed_over {
            self.span.set(&BATCH_END, end.text());
            self.span.end();
        }
    }
}

/// Whether the batch of this number has a span only if it does not end as it should.
fn is_passed_over(seq: i32) -> bool {
    seq > ALL && seq % ONE_IN != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_thousand_batches_of_a_run_have_a_span_each_and_then_one_in_sixteen() {
        let spans = |first: i32, last: i32| (first..=last).filter(|seq| !is_passed_over(*seq)).count();
        assert_eq!(spans(1, 1_000), 1_000);
        assert_eq!(spans(1_001, 1_160), 10);
        assert_eq!(spans(1, 20_000), 2_188);
    }
}
