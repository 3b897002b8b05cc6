//! Stores that measure each of their verbs, so that no adapter has to: how long it took, what went wrong, and a span where
//! whoever asked is within a trace that is recorded. The label is the verb, which is also the name of its statement's file.

mod delivery;
mod execution;
mod leader;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::catalogue::{DB_DURATION, DB_NAMESPACE, DB_SUMMARY, DB_SYSTEM, DB_VERB, VERB};
use super::closed::{Closed, StoreTrouble};
use super::{Spanned, Timing, TraceContext, meters};
use crate::delivery::FallbackError;
use crate::lifecycle::FleetError;

/// The name of the database as the conventions have it.
const POSTGRESQL: &str = "postgresql";

/// Asked by the code of a run for as long as its fan-out is ahead of the workers, which may be hours: without spans.
const ASKED_OVER_AND_OVER: &str = "waiting_batches";

/// A store whose verbs are measured.
pub(crate) struct Timed<S: ?Sized> {
    store: Arc<S>,
    /// The name of the database that it is in.
    database: Arc<str>,
}

impl<S: ?Sized> Timed<S> {
    /// Measures this store, which is in the database of this name, from now on.
    pub(crate) fn new(store: Arc<S>, database: Arc<str>) -> Arc<Self> {
        Arc::new(Self { store, database })
    }
}

/// An error of which a label is known.
pub(crate) trait Troubled {
    /// The label.
    fn trouble(&self) -> StoreTrouble;
}

impl Troubled for FleetError {
    fn trouble(&self) -> StoreTrouble {
        match self {
            Self::Unanswered(_) => StoreTrouble::Unanswered,
            Self::Refused(_) => StoreTrouble::Refused,
            Self::NotNow(_) => StoreTrouble::NotNow,
            Self::Damaged(_) => StoreTrouble::Damaged,
        }
    }
}

impl Troubled for FallbackError {
    fn trouble(&self) -> StoreTrouble {
        match self {
            Self::NotNow(_) => StoreTrouble::NotNow,
            Self::BadRow(_) => StoreTrouble::Refused,
        }
    }
}

/// Implements a store by forwarding each verb to the one that is measured. A verb that is added to the trait does not
/// compile until it has its line.
macro_rules! timed {
    ($store:ident, $error:ty { $($verb:ident($($argument:ident: $given:ty),*) -> $answer:ty;)* }) => {
        #[async_trait::async_trait]
        impl $store for Timed<dyn $store> {
            $(async fn $verb(&self, $($argument: $given),*) -> Result<$answer, $error> {
                static TOOK: OnceLock<Timing> = OnceLock::new();
                measured(stringify!($verb), &self.database, &TOOK, self.store.$verb($($argument),*)).await
            })*
        }
    };
}
use timed;

/// Does what is asked and measures it; `took` is the verb's own histogram, looked up once.
async fn measured<T, E: Troubled>(
    verb: &'static str,
    database: &Arc<str>,
    took: &OnceLock<Timing>,
    asked: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let (begin, mut span) = (Instant::now(), begin_span(verb, database));
    let answer = asked.await;
    match &answer {
        Ok(_) => took
            .get_or_init(|| meters().timing(&DB_DURATION, &[POSTGRESQL, verb, ""]))
            .took(begin.elapsed()),
        Err(error) => {
            let trouble = error.trouble();
            meters().verb(verb, begin.elapsed(), Some(trouble));
            span.failed(trouble.text());
        }
    }
    span.end();
    answer
}

/// A span within the one of whoever asks, if there is one.
fn begin_span(verb: &'static str, database: &Arc<str>) -> Spanned {
    if verb == ASKED_OVER_AND_OVER {
        return Spanned::default();
    }
    let Some(current) = TraceContext::current().filter(|current| current.is_sampled()) else {
        return Spanned::default();
    };
    let mut span = Spanned::begin(&VERB, verb, current.child(), Some(current.span_id()));
    span.set(&DB_SYSTEM, POSTGRESQL);
    span.set(&DB_NAMESPACE, database.clone());
    span.set(&DB_VERB, verb);
    span.set(&DB_SUMMARY, verb);
    span
}
