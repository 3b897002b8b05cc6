//! Which trace and which span something is within, as it travels in rows, headers and around futures.

use std::str;

use opentelemetry::context::{FutureExt as _, WithContext};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use opentelemetry::{Context, ContextGuard};

use super::sampling::sampling;

/// Bytes of a header `traceparent`.
pub(crate) const HEADER: usize = 55;

/// A span, known by its ids; neither is ever 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceContext {
    pub(super) trace: u128,
    pub(super) span: u64,
    pub(super) sampled: bool,
}

impl TraceContext {
    /// Reads a trace context as W3C writes it, version 00, of a trace that can be.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let lower = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte) || *byte == b'-';
        if bytes.len() != HEADER || !bytes.iter().all(lower) {
            return None;
        }
        let mut parts = text.split('-');
        let (Some("00"), Some(trace), Some(span), Some(flags), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        if (trace.len(), span.len()) != (32, 16) {
            return None;
        }
        let context = Self {
            trace: u128::from_str_radix(trace, 16).ok()?,
            span: u64::from_str_radix(span, 16).ok()?,
            sampled: u8::from_str_radix(flags, 16).ok()? & 1 == 1,
        };
        (context.trace != 0 && context.span != 0).then_some(context)
    }

    /// The beginning of a trace of its own, sampled as any other.
    pub(crate) fn root() -> Self {
        let trace = rand::random::<u128>().max(1);
        Self {
            trace,
            span: some_id(),
            sampled: sampling().takes_root(trace),
        }
    }

    /// A new span within this one.
    pub(crate) fn child(self) -> Self {
        self.with_span(some_id())
    }

    /// The span of this id in the same trace.
    pub(crate) fn with_span(self, span: u64) -> Self {
        Self {
            span: span.max(1),
            ..self
        }
    }

    /// The span that the code which is running now is within: the user's own, or what was attached around it.
    pub(crate) fn current() -> Option<Self> {
        Context::map_current(|context| {
            let span = context.span();
            let span = span.span_context();
            span.is_valid().then(|| Self {
                trace: u128::from_be_bytes(span.trace_id().to_bytes()),
                span: u64::from_be_bytes(span.span_id().to_bytes()),
                sampled: span.is_sampled(),
            })
        })
    }

    /// As it is written in a header.
    pub(crate) fn header(self) -> [u8; HEADER] {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let mut write = |at: usize, digits: usize, value: u128| {
            for place in 0..digits {
                let nibble = (value >> (4 * (digits - 1 - place))) & 0xf;
                text[at + place] = HEX[nibble as usize];
            }
        };
        write(3, 32, self.trace);
        write(36, 16, u128::from(self.span));
        write(53, 2, u128::from(self.sampled));
        text
    }

    /// The same as text.
    pub(crate) fn traceparent(self) -> String {
        str::from_utf8(&self.header()).unwrap_or_default().to_owned()
    }

    /// Whether its spans are recorded, here and by whoever it is handed to.
    pub(crate) fn is_sampled(self) -> bool {
        self.sampled
    }

    /// The id of its trace, in hexadecimal.
    pub(crate) fn trace_id(self) -> String {
        format!("{:032x}", self.trace)
    }

    /// The id of its span.
    pub(crate) fn span_id(self) -> u64 {
        self.span
    }

    pub(super) fn span_context(self) -> SpanContext {
        let flags = if self.sampled {
            TraceFlags::SAMPLED
        } else {
            TraceFlags::NOT_SAMPLED
        };
        SpanContext::new(
            TraceId::from(self.trace),
            SpanId::from(self.span),
            flags,
            true,
            TraceState::NONE,
        )
    }

    fn within(self) -> Context {
        Context::new().with_remote_span_context(self.span_context())
    }

    /// Made ready to be attached again and again.
    pub(crate) fn attachable(self) -> Attachable {
        Attachable {
            of: self,
            context: self.within(),
        }
    }

    /// Runs a future within this span.
    pub(crate) fn around<F: Future>(self, future: F) -> WithContext<F> {
        future.with_context(self.within())
    }
}

/// A span that is attached often.
pub(crate) struct Attachable {
    of: TraceContext,
    context: Context,
}

impl Attachable {
    /// What runs until the guard is dropped is within the span. The guard must not live across an await.
    pub(crate) fn attach(&self) -> ContextGuard {
        self.context.clone().attach()
    }

    /// The span.
    pub(crate) fn of(&self) -> TraceContext {
        self.of
    }
}

/// Runs a future within a span, or as it is where there is none.
pub(crate) async fn within<F: Future>(context: Option<TraceContext>, future: F) -> F::Output {
    match context {
        Some(context) => context.around(future).await,
        None => future.await,
    }
}

/// An id that nobody else has.
fn some_id() -> u64 {
    rand::random::<u64>().max(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_header_is_read_and_written_alike() {
        let context = TraceContext::parse(GIVEN).unwrap();
        assert!(context.is_sampled());
        assert_eq!(context.traceparent(), GIVEN);
        assert_eq!(context.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        let not = TraceContext::parse(&GIVEN.replace("-01", "-00")).unwrap();
        assert!(!not.is_sampled());
    }

    #[test]
    fn what_is_no_context_is_not_read() {
        for wrong in [
            "",
            "00",
            &GIVEN.replace("00-0", "01-0"),
            &GIVEN.replace('a', "A"),
            &GIVEN.replace("-01", ""),
            &GIVEN.replace("-01", "-01-"),
            &GIVEN.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &GIVEN.replace("b7ad6b7169203331", &"0".repeat(16)),
            &GIVEN.replace("b7ad6b7169203331", "b7ad6b716920333-"),
            &GIVEN.replace("9c-b7", "9cb-7"),
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-é",
        ] {
            assert_eq!(TraceContext::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_attached_is_current_until_it_is_not() {
        let context = TraceContext::parse(GIVEN).unwrap();
        assert_eq!(TraceContext::current(), None);
        let guard = context.attachable().attach();
        assert_eq!(TraceContext::current(), Some(context));
        drop(guard);
        assert_eq!(TraceContext::current(), None);
    }

    #[tokio::test]
    async fn a_future_runs_within_what_is_put_around_it() {
        let context = TraceContext::parse(GIVEN).unwrap();
        let seen = context.around(async {
            tokio::task::yield_now().await;
            TraceContext::current()
        });
        assert_eq!(seen.await, Some(context));
        assert_eq!(TraceContext::current(), None);
    }
}
