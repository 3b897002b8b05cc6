//! Which traces are recorded. The trace's own id decides, so that everybody who asks says the same.
//!
//! The SDK's sampler by ratio compares bits of the id that are fixed in a UUIDv7, which names the trace of a run; others of
//! its bits count up within a millisecond. So it is all of the lower half that decides, scrambled.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::trace::{Link, SpanKind, TraceContextExt as _, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SamplingDecision, SamplingResult, ShouldSample};

use super::run_trace::scramble;

/// More spans a second than this halve the share; what a collector and this process can stand with no notice.
const MANY: u32 = 500;
/// Fewer double it.
const FEW: u32 = 125;
/// The least share is 2 to the power of minus this.
const LOWEST: u8 = 16;
/// How many bits of the id decide.
const BITS: u32 = 56;

/// Which share of traces is recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Share {
    /// All, as long as those are few.
    Auto,
    /// This share.
    Of(f64),
}

/// How it is decided.
#[derive(Debug)]
pub(crate) struct Sampling {
    share: Share,
    /// Whoever started a trace has decided.
    parent_decides: bool,
    level: Level,
}

static SAMPLING: OnceLock<Sampling> = OnceLock::new();

/// How this process decides.
pub(crate) fn sampling() -> &'static Sampling {
    SAMPLING.get_or_init(|| Sampling::new(Share::Auto, true))
}

/// Says how this process decides; before anybody asks.
pub(super) fn decide(share: Share, parent_decides: bool) {
    let _ = SAMPLING.set(Sampling::new(share, parent_decides));
}

impl Sampling {
    pub(super) fn new(share: Share, parent_decides: bool) -> Self {
        Self {
            share,
            parent_decides,
            level: Level::default(),
        }
    }

    /// Whether a trace that begins here is recorded.
    pub(super) fn takes_root(&self, trace: u128) -> bool {
        match self.share {
            Share::Of(share) => is_within(trace, share),
            Share::Auto => is_within(trace, self.level.share()),
        }
    }

    /// Whether a trace is that began elsewhere and was recorded there, or was not.
    pub(super) fn takes_child(&self, trace: u128, sampled: bool) -> bool {
        if self.parent_decides {
            sampled
        } else {
            self.takes_root(trace)
        }
    }

    /// Another span was made here.
    pub(super) fn made_span(&self) {
        if self.share == Share::Auto {
            self.level.count(Instant::now());
        }
    }
}

/// Whether a trace is in this share of all: every larger share holds it too.
fn is_within(trace: u128, share: f64) -> bool {
    let all = 1u64 << BITS;
    let own = scramble(trace as u64) & (all - 1);
    own >= all - (all as f64 * share.clamp(0.0, 1.0)) as u64
}

/// A share that halves while many spans are made, and doubles while few are.
#[derive(Debug, Default)]
struct Level {
    /// How often it is halved.
    halved: AtomicU8,
    second: Mutex<Option<Second>>,
}

#[derive(Debug, Clone, Copy)]
struct Second {
    began: Instant,
    spans: u32,
    raised: bool,
}

impl Level {
    fn share(&self) -> f64 {
        let halved = self.halved.load(Ordering::Relaxed);
        if halved == 0 {
            return 1.0;
        }
        self.turn(Instant::now(), 0);
        0.5f64.powi(i32::from(self.halved.load(Ordering::Relaxed)))
    }

    fn count(&self, now: Instant) {
        self.turn(now, 1);
    }

    fn turn(&self, now: Instant, spans: u32) {
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        let this = second.get_or_insert(Second {
            began: now,
            spans: 0,
            raised: false,
        });
        let passed = now.saturating_duration_since(this.began);
        if passed >= Duration::from_secs(1) {
            // Seconds in which nobody came had few.
            let few = u64::from(!this.raised && this.spans < FEW) + passed.as_secs() - 1;
            self.lower(few);
            *this = Second {
                began: now,
                spans: 0,
                raised: false,
            };
        }
        this.spans += spans;
        if this.spans >= MANY {
            // At once: a second of all that thousands of runs make would fill every queue.
            this.spans = 0;
            this.raised = true;
            let halved = self.halved.load(Ordering::Relaxed);
            self.halved.store((halved + 1).min(LOWEST), Ordering::Relaxed);
        }
    }

    fn lower(&self, times: u64) {
        let halved = self.halved.load(Ordering::Relaxed);
        let times = u8::try_from(times).unwrap_or(u8::MAX);
        self.halved.store(halved.saturating_sub(times), Ordering::Relaxed);
    }
}

/// The same rule for the spans that users make themselves.
#[derive(Debug, Clone)]
pub(super) struct UserSampler;

impl ShouldSample for UserSampler {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        _: &str,
        _: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        let id = u128::from_be_bytes(trace.to_bytes());
        let parent = parent.filter(|context| context.has_active_span());
        let takes = match parent {
            Some(parent) => sampling().takes_child(id, parent.span().span_context().is_sampled()),
            None => sampling().takes_root(id),
        };
        SamplingResult {
            decision: match takes {
                true => SamplingDecision::RecordAndSample,
                false => SamplingDecision::Drop,
            },
            attributes: Vec::new(),
            trace_state: TraceState::NONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn traces() -> Vec<u128> {
        (0..40_000).map(|_| Uuid::now_v7().as_u128()).collect()
    }

    #[test]
    fn ids_of_runs_are_spread_evenly_over_the_share() {
        let traces = traces();
        for share in [0.0, 0.1, 0.4, 0.5, 0.8, 1.0] {
            let taken = traces.iter().filter(|trace| is_within(**trace, share)).count();
            let expected = traces.len() as f64 * share;
            // Five standard deviations.
            let most = 5.0 * (expected * (1.0 - share)).sqrt();
            assert!((taken as f64 - expected).abs() <= most, "{share}: {taken}");
        }
    }

    #[test]
    fn a_larger_share_holds_all_of_a_smaller_one() {
        for trace in traces() {
            assert!(!is_within(trace, 0.125) || is_within(trace, 0.25));
        }
    }

    #[test]
    fn the_context_of_a_start_decides_unless_it_is_told_not_to() {
        let all = Sampling::new(Share::Of(1.0), true);
        assert!(all.takes_child(1, true) && !all.takes_child(1, false) && all.takes_root(1));
        let own = Sampling::new(Share::Of(1.0), false);
        assert!(own.takes_child(1, false));
    }

    #[test]
    fn many_spans_halve_the_share_at_once_and_quiet_seconds_double_it() {
        let level = Level::default();
        let now = Instant::now();
        for _ in 0..3 * MANY {
            level.count(now);
        }
        assert_eq!(level.halved.load(Ordering::Relaxed), 3);
        level.count(now + Duration::from_secs(1));
        assert_eq!(level.halved.load(Ordering::Relaxed), 3, "that second was a busy one");
        level.count(now + Duration::from_secs(2));
        assert_eq!(level.halved.load(Ordering::Relaxed), 2);
        level.count(now + Duration::from_secs(9));
        assert_eq!(level.halved.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_level_stays_where_a_middling_number_of_spans_is_made() {
        let level = Level::default();
        let begin = Instant::now();
        for _ in 0..MANY {
            level.count(begin);
        }
        for second in 1..10 {
            for _ in 0..FEW + 10 {
                level.count(begin + Duration::from_secs(second));
            }
        }
        assert_eq!(level.halved.load(Ordering::Relaxed), 1);
    }
}
