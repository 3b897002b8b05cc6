//! The ids of a run's spans. They are computed from its id, so that replicas agree on them without telling each other.

use super::sampling::sampling;
use super::trace_context::TraceContext;
use crate::lifecycle::RunId;

/// What a row has in place of a version whose run comes of another one, as a child, a successor or a repetition does: its
/// trace is its own, and that span is what it is linked to. SQL writes it too: `lockgate.trace_link`.
const LINK: &str = "ln";
/// Flags of a span whose trace has the id of its run: whether it is recorded is decided by that.
const UNDECIDED: &str = "ff";

/// The trace of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunTrace {
    id: u64,
    root: TraceContext,
    start: Start,
}

/// What a run was started by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// By nobody who has a trace.
    Alone,
    /// Within this span.
    Within(TraceContext),
    /// By or after another run, in this span of it.
    Of(TraceContext),
}

impl RunTrace {
    /// The trace of whoever started it, else one that the run's id names. Whether it is recorded is in both cases what was
    /// decided for whoever started it.
    pub(crate) fn of(id: RunId, traceparent: Option<&str>) -> Self {
        let bits = id.as_u128();
        let own = TraceContext {
            trace: bits.max(1),
            span: (bits as u64).max(1),
            sampled: false,
        };
        let takes = |trace: u128, decided: Option<bool>| match decided {
            Some(sampled) => sampling().takes_child(trace, sampled),
            None => sampling().takes_root(trace),
        };
        let (trace, decided, start) = match (traceparent.and_then(TraceContext::parse), traceparent) {
            (Some(given), _) => (given.trace, Some(given.sampled), Start::Within(given)),
            (None, Some(text)) => match linked(text) {
                Some((of, decided)) => (own.trace, decided, Start::Of(of)),
                None => (own.trace, None, Start::Alone),
            },
            (None, None) => (own.trace, None, Start::Alone),
        };
        Self {
            id: own.span,
            root: TraceContext {
                trace,
                sampled: takes(trace, decided),
                ..own
            },
            start,
        }
    }

    /// A run that comes of one which is recorded, or is not.
    pub(crate) fn coming_of(id: RunId, of: TraceContext) -> Self {
        Self::of(id, Some(&link_to(of)))
    }

    /// The span of the run itself.
    pub(crate) fn root(&self) -> TraceContext {
        self.root
    }

    /// The span that the run was started within.
    pub(crate) fn parent(&self) -> Option<u64> {
        match self.start {
            Start::Within(given) => Some(given.span),
            Start::Alone | Start::Of(_) => None,
        }
    }

    /// The span of the run that this one comes of.
    pub(crate) fn comes_of(&self) -> Option<TraceContext> {
        match self.start {
            Start::Of(of) => Some(of),
            Start::Alone | Start::Within(_) => None,
        }
    }

    /// Who started it, however: whom its messages come from where nobody tells of it.
    pub(crate) fn given(&self) -> Option<TraceContext> {
        match self.start {
            Start::Within(given) | Start::Of(given) => Some(given),
            Start::Alone => None,
        }
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

/// How the row of a run says that it comes of that span.
pub(crate) fn link_to(of: TraceContext) -> String {
    let text = of.traceparent();
    format!("{LINK}{}", &text[LINK.len()..])
}

/// The same of a run that goes on in place of one with this context.
pub(crate) fn link_after(run: RunId, traceparent: &str) -> String {
    link_to(RunTrace::of(run, Some(traceparent)).root())
}

/// Reads that, and whether that trace was to be recorded, if it was decided.
fn linked(text: &str) -> Option<(TraceContext, Option<bool>)> {
    let of = TraceContext::parse(&format!("00{}", text.strip_prefix(LINK)?))?;
    Some((of, (!text.ends_with(UNDECIDED)).then_some(of.sampled)))
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
    fn a_run_that_comes_of_another_has_a_trace_of_its_own_and_is_recorded_as_that_is() {
        let (parent, child) = (Uuid::now_v7(), Uuid::now_v7());
        let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let claim = RunTrace::of(parent, Some(given)).claim(3);
        let trace = RunTrace::of(child, Some(&link_to(claim)));
        assert_eq!(trace.root().trace_id(), child.simple().to_string());
        assert_eq!((trace.parent(), trace.comes_of()), (None, Some(claim)));
        assert!(trace.root().is_sampled() && trace == RunTrace::coming_of(child, claim));
        let not = RunTrace::of(parent, Some(&given.replace("-01", "-00"))).claim(3);
        assert!(!RunTrace::coming_of(child, not).root().is_sampled());
        // As SQL writes it of a run that named its own trace.
        let hex = parent.simple().to_string();
        let undecided = format!("ln-{hex}-{}-ff", &hex[16..]);
        let trace = RunTrace::of(child, Some(&undecided));
        let (of, own) = (trace.comes_of().unwrap(), RunTrace::of(parent, None).root());
        assert_eq!((of.trace, of.span), (own.trace, own.span));
        assert_eq!(trace.root(), RunTrace::of(child, None).root());
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
