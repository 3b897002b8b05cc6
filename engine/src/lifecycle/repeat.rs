//! A run that is over, to be done again by another one.

use uuid::Uuid;

/// How a run that is over is done again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Again {
    /// The same: earlier steps are not done again, messages keep their ids, signals that were not taken are told again.
    Retry,
    /// One like it.
    Fork {
        /// Its input, exact bytes of a JSON document; none: the same.
        params: Option<Vec<u8>>,
        /// Its messages have the ids of that run's.
        keep_message_ids: bool,
    },
}

/// A run to be done again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepeatRun {
    /// The id that the new run will have; asking again under the same id starts none twice.
    pub id: Uuid,
    /// The run that is over, or that went on as one that is.
    pub run: Uuid,
    /// How.
    pub again: Again,
    /// Path or name of the step from which on all is done again; none: a retry begins where it failed, a fork at the
    /// beginning.
    pub from: Option<String>,
    /// Why, for the record.
    pub reason: Option<String>,
}

impl RepeatRun {
    /// A retry from the step that failed.
    #[must_use]
    pub fn retry(run: Uuid) -> Self {
        Self {
            id: Uuid::now_v7(),
            run,
            again: Again::Retry,
            from: None,
            reason: None,
        }
    }

    /// A fork from the beginning, with the same input.
    #[must_use]
    pub fn fork(run: Uuid) -> Self {
        Self {
            again: Again::Fork {
                params: None,
                keep_message_ids: false,
            },
            ..Self::retry(run)
        }
    }
}
