//! Planning: walks the source's ids in ascending chunks and writes batches, a bounded number ahead of the workers.

use std::time::{Duration, Instant};

use super::book::HeldRun;
use super::executor::Shared;
use super::fan_outs::KnownFanOut;
use super::plan_told::PlanTold;
use crate::lifecycle::{ItemIds, PlanChunk, PlanProgress, PlannedBatch, RunClaim};
use crate::telemetry::within;
use crate::workflow::IdPages;

/// Batches in the first chunk and in the largest: the first message should not wait for a big one.
const FIRST_CHUNK: usize = 2;
const LARGEST_CHUNK: usize = 64;
/// How often to look whether the workers have caught up.
const FIRST_LOOK: Duration = Duration::from_millis(10);
const SLOWEST_LOOK: Duration = Duration::from_millis(500);
/// How often a source is asked for the same page before the run fails.
const SOURCE_TRIES: u32 = 6;
/// Half the pause before the second try; doubled for each next one, half a minute in all: a database restarts meanwhile.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// How planning ended.
pub(crate) enum PlanEnd {
    /// Every id is in a batch.
    Whole,
    /// The run was paused or asked to stop.
    Halted,
    /// Somebody took over.
    Lost,
    /// The store failed; the cursor knows where to go on.
    Retry(String),
}

/// Plans what is not planned yet.
///
/// # Errors
/// The source cannot be read, or its ids do not ascend: the run fails.
pub(crate) async fn plan(shared: &Shared, held: &HeldRun, known: &KnownFanOut) -> anyhow::Result<PlanEnd> {
    let mut told = PlanTold::begin(&held.claim, known);
    let end = plan_whole(shared, held, known, &mut told).await;
    told.end(&end);
    end
}

async fn plan_whole(
    shared: &Shared,
    held: &HeldRun,
    known: &KnownFanOut,
    told: &mut PlanTold<'_>,
) -> anyhow::Result<PlanEnd> {
    let mut tried = 0;
    loop {
        match try_plan(shared, held, known, told).await {
            // A snapshot dies with its connection: the plan is made anew from another one.
            Err(error) if known.fan_out.consistent() && tried + 1 < SOURCE_TRIES => {
                tried += 1;
                told.trouble(tried);
                trouble(shared, &held.claim, known, tried, &error).await;
                tokio::time::sleep(FIRST_PAUSE * (1 << tried)).await;
            }
            ended => return ended,
        }
    }
}

async fn try_plan(
    shared: &Shared,
    held: &HeldRun,
    known: &KnownFanOut,
    told: &mut PlanTold<'_>,
) -> anyhow::Result<PlanEnd> {
    let claim = &held.claim;
    let consistent = known.fan_out.consistent();
    let step = match shared.fleet.open_fan_out(claim, &known.path, consistent).await {
        Ok(Some(step)) => step,
        Ok(None) => return Ok(PlanEnd::Lost),
        Err(error) => return Ok(PlanEnd::Retry(error.to_string())),
    };
    if step.planned {
        shared.work.offer(claim.run);
        return Ok(PlanEnd::Whole);
    }
    fail::fail_point!("plan.before_chunk", |_| Ok(PlanEnd::Lost));
    let mut cursor = step.plan_cursor;
    let mut pages = known.fan_out.ids(&shared.resources, cursor).await?;
    let mut chunk_batches = FIRST_CHUNK;
    loop {
        let limit = chunk_batches * shared.settings.batch_size;
        let tries = if consistent { 1 } else { SOURCE_TRIES };
        let began = Instant::now();
        let ids = next_page(shared, claim, known, pages.as_mut(), limit, (tries, told)).await?;
        ascending(cursor, &ids)?;
        // A short page may be of a filter that was behind its bound.
        let last = ids.is_empty();
        let after = cursor;
        cursor = ids.last().copied().or(cursor);
        let batches = into_batches(ids, shared.settings.batch_size)?;
        let chunk = PlanChunk {
            path: known.path.clone(),
            after,
            batches,
            last,
        };
        if last {
            fail::fail_point!("plan.before_end", |_| Ok(PlanEnd::Lost));
        }
        match within(told.context(), shared.fleet.plan_chunk(claim, &chunk)).await {
            Ok(PlanProgress::Written) => told.written(&chunk.batches, began),
            Ok(PlanProgress::Halted) => return Ok(PlanEnd::Halted),
            Ok(PlanProgress::Lost) => return Ok(PlanEnd::Lost),
            Err(error) => return Ok(PlanEnd::Retry(error.to_string())),
        }
        fail::fail_point!("plan.after_chunk", |_| Ok(PlanEnd::Lost));
        if last || !consistent {
            shared.work.offer(claim.run);
        }
        if last {
            return Ok(PlanEnd::Whole);
        }
        if !consistent && let Some(left) = keep_distance(shared, held).await {
            return Ok(left);
        }
        chunk_batches = (chunk_batches * 4).min(LARGEST_CHUNK);
    }
}

async fn next_page(
    shared: &Shared,
    claim: &RunClaim,
    known: &KnownFanOut,
    pages: &mut dyn IdPages,
    limit: usize,
    (tries, told): (u32, &mut PlanTold<'_>),
) -> anyhow::Result<Vec<i64>> {
    let mut tried = 0;
    loop {
        match pages.next(limit).await {
            Ok(ids) => return Ok(ids),
            Err(error) => {
                tried += 1;
                if tried >= tries {
                    return Err(error);
                }
                told.trouble(tried);
                trouble(shared, claim, known, tried, &error).await;
                tokio::time::sleep(FIRST_PAUSE * (1 << tried)).await;
            }
        }
    }
}

/// Says that the source is in trouble: in the log, and where `runs why` finds it.
async fn trouble(shared: &Shared, claim: &RunClaim, known: &KnownFanOut, tried: u32, error: &anyhow::Error) {
    let why = format!("{error:#}");
    tracing::warn!(name: "ids_not_read", run = %claim.run, step = known.path, tried, why, "the items of a fan-out could not be read: it is tried again");
    if let Err(error) = shared.fleet.note_plan_trouble(claim, &known.path, &why).await {
        tracing::debug!(run = %claim.run, %error, "the trouble was not written down");
    }
}

fn ascending(before: Option<i64>, ids: &[i64]) -> anyhow::Result<()> {
    let mut before = before;
    for id in ids {
        if let Some(before) = before.filter(|before| before >= id) {
            anyhow::bail!("the source returned item {id} after item {before}: ids must ascend and come once");
        }
        before = Some(*id);
    }
    Ok(())
}

fn into_batches(ids: Vec<i64>, size: usize) -> anyhow::Result<Vec<PlannedBatch>> {
    ids.chunks(size)
        .map(|ids| {
            Ok(PlannedBatch {
                ids: ItemIds::new(ids.to_vec())?,
            })
        })
        .collect()
}

/// Waits until the workers have taken some of what is planned. Answers why it is left there: the cursor knows where to go on.
async fn keep_distance(shared: &Shared, held: &HeldRun) -> Option<PlanEnd> {
    let ahead = i64::try_from(shared.settings.plan_ahead).unwrap_or(i64::MAX);
    let mut look = FIRST_LOOK;
    loop {
        // Whoever would take batches of a paused run may come in days.
        if held.is_paused() {
            return Some(PlanEnd::Halted);
        }
        if shared.stopping.is_cancelled() {
            return Some(PlanEnd::Retry("this replica stops".to_owned()));
        }
        match shared.fleet.waiting_batches(held.claim.run, ahead).await {
            Ok(waiting) if waiting < ahead => return None,
            // The next chunk meets the same store and says so.
            Err(_) => return None,
            Ok(_) => {}
        }
        tokio::time::sleep(look).await;
        look = (look * 2).min(SLOWEST_LOOK);
    }
}
