//! Verification: reads a run's topics back and compares them, item by item, with the tables.
//!
//! It trusts neither: what the tables say was delivered must be in a topic, what is in a topic under the run's id must
//! be one of its messages, unchanged, where the tables say, and not more often than claims and redeliveries explain.
//! The tables are read first: what changes later can only add records that were expected already.

mod findings;
mod leaves;
mod ledger;
mod message_ids;
mod records;
mod report;
mod tables;

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use uuid::Uuid;

pub use findings::{Finding, Kind, Place};
pub use report::{Duplicates, Report, Scope};
pub use tables::{BatchFacts, RunFacts, RunTables, StoredFacts};

use crate::delivery::TopicReader;
use crate::lifecycle::{FleetError, RunId};
use ledger::Ledger;
use records::Judge;

/// Records carry the time of whoever made them, whose clock may be behind the database's.
const MARGIN: Duration = Duration::minutes(10);

/// What to compare.
#[derive(Debug, Clone)]
pub struct VerifyRequest {
    /// The run.
    pub run: RunId,
    /// Topics that its fan-outs send to; those of its undelivered rows are read besides.
    pub topics: BTreeSet<String>,
    /// Records from then on; none: from a little before the run was started.
    pub since: Option<DateTime<Utc>>,
    /// The window of a replica.
    pub window: u64,
}

/// Why a run could not be verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// There is no such run.
    #[error("there is no run {0}")]
    NoRun(RunId),
    /// The tables cannot be read.
    #[error(transparent)]
    Tables(#[from] FleetError),
    /// A topic cannot be read.
    #[error("topic {topic} cannot be read back: {error:#}")]
    Topic {
        /// The topic.
        topic: String,
        /// What the reader said.
        error: anyhow::Error,
    },
}

/// Compares a run's tables with its topics. `progress` is told the records read so far.
///
/// # Errors
/// The run is not there, or tables or topics cannot be read; nothing is said of the run then.
pub async fn verify(
    tables: &dyn RunTables,
    reader: Arc<dyn TopicReader>,
    request: VerifyRequest,
    mut progress: impl FnMut(u64) + Send + 'static,
) -> Result<Report, VerifyError> {
    let run = tables
        .read_run(request.run)
        .await?
        .ok_or(VerifyError::NoRun(request.run))?;
    let ledger = read_tables(tables, &run).await?;
    let scope = Scope {
        topics: request.topics.into_iter().chain(run.topics.iter().cloned()).collect(),
        since: request.since.unwrap_or(run.created_at - MARGIN),
        window: request.window,
    };
    let mut judge = Judge::new(&run, ledger);
    // Reading a topic blocks: it has a thread of its own.
    let reading = tokio::task::spawn_blocking(move || {
        let mut records = 0;
        for topic in &scope.topics {
            let mut each = |record| {
                records += 1;
                progress(records);
                judge.record(topic, &record);
                Ok(())
            };
            let read = reader.read_since(topic, scope.since, &mut each);
            read.map_err(|error| VerifyError::Topic {
                topic: topic.clone(),
                error,
            })?;
        }
        Ok(report::conclude(run, scope, records, judge))
    });
    reading.await.unwrap_or_else(|error| {
        Err(VerifyError::Topic {
            topic: "of the run".to_owned(),
            error: error.into(),
        })
    })
}

/// Batches before rows: a row whose batch is not known as finished is not judged, the other way round is not so.
async fn read_tables(tables: &dyn RunTables, run: &RunFacts) -> Result<Ledger, FleetError> {
    let mut ledger = Ledger::new(run.origin_id);
    let mut after = i32::MIN;
    loop {
        let page = tables.read_batches(run.run, after).await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        page.iter().for_each(|batch| ledger.add_batch(batch));
    }
    ledger.check_plan();
    for (seq, count) in tables.read_lost_claims(run.run).await? {
        ledger.add_lost_claims(seq, count);
    }
    let mut after = Uuid::nil();
    loop {
        let page = tables.read_stored(run.run, after).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        page.iter().for_each(|row| ledger.add_stored(row));
    }
    Ok(ledger)
}
