//! What is told of the planning of a fan-out.

use std::time::Instant;

use opentelemetry::KeyValue;

use super::fan_outs::KnownFanOut;
use super::planner::PlanEnd;
use crate::lifecycle::{PlannedBatch, RunClaim};
use crate::telemetry::catalogue::{ATTEMPT, BATCHES, CHUNKS, ITEMS, PLAN, RUN_ID, STEP_PATH, WORKFLOW};
use crate::telemetry::{Spanned, TraceContext};
use crate::workflow::Place;

/// So many chunks of a plan each have spans of their statements.
const TRACED_CHUNKS: usize = 100;

/// A plan that is being made.
pub(super) struct PlanTold<'a> {
    known: &'a KnownFanOut,
    span: Spanned,
    items: usize,
    batches: usize,
    chunks: usize,
}

impl<'a> PlanTold<'a> {
    pub(super) fn begin(claim: &RunClaim, known: &'a KnownFanOut) -> Self {
        let within = known.trace.claim(claim.token);
        // The name, not the path: there are as many paths as turns of a loop.
        let place = Place::of_path(&known.path);
        let name = place.as_ref().map_or(known.path.as_str(), |place| place.name.as_str());
        let mut span = Spanned::begin(&PLAN, name, within.child(), Some(within.span_id()));
        if span.is_on() {
            span.set(&RUN_ID, claim.run.to_string());
            span.set(&WORKFLOW, known.run.workflow.clone());
            span.set(&STEP_PATH, known.path.clone());
        }
        Self {
            known,
            span,
            items: 0,
            batches: 0,
            chunks: 0,
        }
    }

    /// What the next chunk is written within.
    pub(super) fn context(&self) -> Option<TraceContext> {
        self.span.context().filter(|_| self.chunks < TRACED_CHUNKS)
    }

    /// A chunk is written that was begun to be read then.
    pub(super) fn written(&mut self, batches: &[PlannedBatch], began: Instant) {
        let items = batches.iter().map(|batch| batch.ids.len()).sum();
        self.known.meter.chunk_planned(items, batches.len(), began.elapsed());
        self.items += items;
        self.batches += batches.len();
        self.chunks += 1;
    }

    /// The source could not be read, for the time being.
    pub(super) fn trouble(&mut self, tried: u32) {
        if self.span.is_on() {
            let attempt = KeyValue::new(ATTEMPT.name, i64::from(tried));
            self.span.event("trouble", vec![attempt]);
        }
    }

    /// It is planned, or is not by this claim. One that was found whole has no span.
    pub(super) fn end(mut self, end: &anyhow::Result<PlanEnd>) {
        if !self.span.is_on() {
            return;
        }
        let failed = match end {
            Ok(PlanEnd::Whole | PlanEnd::FarAhead | PlanEnd::Halted) => None,
            Ok(PlanEnd::Lost) => Some("lost"),
            Ok(PlanEnd::Retry(_)) => Some("store"),
            Err(_) => Some("source"),
        };
        if self.chunks == 0 && failed.is_none() {
            return;
        }
        if let Some(why) = failed {
            self.span.failed(why);
        }
        self.span.set(&ITEMS, self.items as i64);
        self.span.set(&BATCHES, self.batches as i64);
        self.span.set(&CHUNKS, self.chunks as i64);
        self.span.end();
    }
}
