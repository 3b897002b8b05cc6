//! The ids of a run's spans. They are computed from its id, so that replicas agree on them without telling each other.

use super::sampling::sampling;
use super::trace_context::TraceContext;
use crate::lifecycle::RunId;

/// The trace of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunTrace {
    id: u64,
    root: TraceContext,
    parent: Option<u64>,
}

impl RunTrace {
    /// The trace of whoever started it, else one that the run's id names.
    pub(crate) fn of(id: RunId, traceparent: Option<&str>) -> Self {
        let bits = id.as_u128();
        let low = bits as u64;
        let Some(given) = traceparent.and_then(TraceContext::parse) else {
            let root = TraceContext {
                trace: bits.max(1),
                span: low.max(1),
                sampled: sampling().takes_root(bits),
            };
            return Self {
                id: low,
                root,
                parent: None,
            };
        };
        let root = TraceContext {
            sampled: sampling().takes_child(given.trace, given.sampled),
            ..given.with_span(mix(low, 0, 0))
        };
        Self {
            id: low,
            root,
            parent: Some(given.span),
        }
    }

    /// The span of the run itself.
    pub(crate) fn root(&self) -> TraceContext {
        self.root
    }

    /// The span that the run was started within.
    pub(crate) fn parent(&self) -> Option<u64> {
        self.parent
    }

    /// The span of a claim.
    pub(crate) fn claim(&self, token: i64) -> TraceContext {
        self.root.with_span(mix(self.id, token as u64, 1))
    }

    /// The span of a claim's work on a batch; its messages carry it.
    pub(crate) fn batch(&self, seq: i32, token: i64) -> TraceContext {
        self.root
            .with_span(mix(self.id, token as u64, (1 << 32) | u64::from(seq.cast_unsigned())))
    }

    /// The span of a step that is done in a claim.
    pub(crate) fn step(&self, path: &str, token: i64) -> TraceContext {
        self.root.with_span(mix(self.id, token as u64, fnv(path) | (1 << 63)))
    }

    /// The span of a wait, which may outlast claims.
    pub(crate) fn wait(&self, path: &str) -> TraceContext {
        self.root.with_span(mix(self.id, 0, fnv(path) | (1 << 62)))
    }
}

/// An id of these three, never 0.
fn mix(id: u64, token: u64, what: u64) -> u64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = scramble(id.wrapping_add(STEP));
    let mixed = scramble(mixed ^ token.wrapping_add(STEP));
    scramble(mixed ^ what.wrapping_add(STEP)).max(1)
}

/// The finaliser of splitmix64: each bit of the answer depends on all of the value.
pub(super) fn scramble(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;

    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_run_that_nobody_gave_a_context_names_its_trace() {
        let run = Uuid::now_v7();
        let trace = RunTrace::of(run, None);
        assert_eq!(trace.root().trace_id(), run.simple().to_string());
        assert_eq!(trace.root().span_id(), run.as_u128() as u64);
        assert_eq!(trace.parent(), None);
    }

    #[test]
    fn the_context_of_the_start_is_continued() {
        let run = Uuid::now_v7();
        let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let trace = RunTrace::of(run, Some(given));
        assert_eq!(trace.root().trace_id(), &given[3..35]);
        assert_eq!(trace.parent(), Some(0xb7ad_6b71_6920_3331));
        assert!(trace.root().is_sampled());
        assert_eq!(trace, RunTrace::of(run, Some(given)), "all replicas compute the same");
        assert!(
            !RunTrace::of(run, Some(&given.replace("-01", "-00")))
                .root()
                .is_sampled()
        );
        assert_eq!(RunTrace::of(run, Some("nonsense")), RunTrace::of(run, None));
    }

    #[test]
    fn no_two_spans_of_a_run_have_one_id() {
        let trace = RunTrace::of(Uuid::now_v7(), None);
        let mut ids = HashSet::from([trace.root().span_id()]);
        for token in 0..30 {
            assert!(ids.insert(trace.claim(token).span_id()));
            for seq in 0..300 {
                assert!(ids.insert(trace.batch(seq, token).span_id()));
                assert!(ids.insert(trace.step(&format!("s{seq}"), token).span_id()));
            }
        }
        assert!((0..300).all(|seq| ids.insert(trace.wait(&format!("s{seq}")).span_id())));
    }
}
