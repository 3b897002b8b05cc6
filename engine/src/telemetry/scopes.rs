//! What the log lines of a run's or batch's work have in common. These are no spans of a trace: those are made at their
//! end, see `Spanned`.

use tracing::Span;

use crate::lifecycle::{Batch, WorkRun};

/// The target of scopes, by which they are kept out of traces.
pub(super) const SCOPE: &str = "lockgate::scope";

/// The scope of a run's code.
pub(crate) fn run_scope(run: &WorkRun) -> Span {
    tracing::info_span!(target: SCOPE, "run", run = %run.id, workflow = run.workflow)
}

/// The scope of a batch.
pub(crate) fn batch_scope(batch: &Batch) -> Span {
    let claim = &batch.claim;
    tracing::info_span!(target: SCOPE, "batch", run = %claim.run, batch = claim.seq, token = claim.token)
}
