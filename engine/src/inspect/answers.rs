//! What is answered about a run beyond what was read: the proof with its verdict, the causes in words.

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::{Cause, Proof, WhyFacts, causes};

/// The states of a run.
pub const RUN_STATES: [&str; 8] = [
    "queued",
    "running",
    "suspended",
    "paused",
    "completed",
    "failed",
    "cancelled",
    "quarantined",
];

/// A proof and whether it holds.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ProofAnswer {
    /// Whether everything adds up.
    pub holds: bool,
    /// The proof.
    #[serde(flatten)]
    pub proof: Proof,
}

impl ProofAnswer {
    /// The answer of a proof.
    #[must_use]
    pub fn of(proof: Proof) -> Self {
        Self {
            holds: proof.holds(),
            proof,
        }
    }
}

/// Why a run is not moving.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct WhyAnswer {
    /// The run.
    pub run_id: Uuid,
    /// Its state.
    pub status: Option<String>,
    /// Why, most important cause first.
    pub causes: Vec<CauseInWords>,
}

/// A cause and its sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CauseInWords {
    /// The cause.
    #[serde(flatten)]
    pub cause: Cause,
    /// The sentence.
    pub text: String,
}

impl WhyAnswer {
    /// What the facts say; none: there is no such run.
    #[must_use]
    pub fn of(run: Uuid, facts: &WhyFacts) -> Option<Self> {
        let found = causes(facts);
        let in_words = |cause: Cause| CauseInWords {
            text: cause.to_string(),
            cause,
        };
        (found != [Cause::UnknownRun]).then(|| Self {
            run_id: run,
            status: facts.run.as_ref().map(|run| run.status.clone()),
            causes: found.into_iter().map(in_words).collect(),
        })
    }
}
