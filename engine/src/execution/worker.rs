//! A worker: claims a batch, streams it, finishes it and claims the next in one round trip, over and over.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use tracing::Instrument;
use uuid::Uuid;

use super::batch_told::BatchTold;
use super::book::{Fate, HeldBatch, Lease};
use super::executor::Shared;
use super::fan_outs::KnownFanOut;
use super::pipeline::{BatchEnd, Pipeline, source_failed};
use super::tally::Tallies;
use super::tracker::BatchTracker;
use crate::delivery::{Admission, Probe, ProbeEnd};
use crate::lifecycle::{Batch, BatchOutcome, Ended, FleetError, HandBack, RunId};
use crate::telemetry::{self, closed, within};

/// Pause after the store failed, so that a dead one is not asked in a loop.
const STORE_PAUSE: Duration = Duration::from_millis(500);
/// Before a batch is claimed again whose topic is in trouble.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often the store may refuse a finish for what it holds, before the batch counts as one that cannot be finished.
/// What the store only cannot do now, as with a full disk, is tried for as long as the lease is trusted.
const REFUSALS: u32 = 5;
/// Before a suspect batch is claimed again that could not run alone.
const ALONE_PAUSE: Duration = Duration::from_secs(1);
/// Runs a scout asks for at once.
const RUNS: i64 = 64;

/// Looks for runs with work: when hinted, and at every poll.
pub(crate) async fn scout(shared: Arc<Shared>) {
    let runnable = shared.registry.runnable();
    let (mut idle, mut behind) = (0u32, None);
    while !shared.stopping.is_cancelled() {
        // Runs that would be declined do not take the places of others.
        let declined = shared.fan_outs.declined(|known| may_send(&shared, known));
        let pause = match shared.fleet.claimable_runs(&runnable, &declined, behind, RUNS).await {
            Ok(runs) => {
                // Where there are more, the next ones have their turn at the next look.
                behind = runs.last().copied().filter(|_| runs.len() as i64 >= RUNS);
                idle = if runs.is_empty() { idle.saturating_add(1) } else { 0 };
                shared.work.replace(&runs);
                // A replica that finds nothing asks more rarely; hints come at once all the same.
                shared.settings.poll * fewer(idle)
            }
            Err(error) => {
                tracing::warn!(name: "looking_failed", kind = "batches", %error, "work could not be looked for");
                shared.settings.poll
            }
        };
        tokio::select! {
            () = shared.stopping.cancelled() => {}
            () = shared.hints.batches.notified() => {}
            () = tokio::time::sleep(jittered(pause)) => {}
        }
    }
}

/// How many polls pass between looks after so many that found nothing.
fn fewer(looks: u32) -> u32 {
    match looks {
        0..=5 => 1,
        6..=20 => 2,
        _ => 8,
    }
}

/// Replicas that poll in step would all ask at once; never longer than told.
pub(crate) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.75..1.0))
}

pub(crate) async fn run(shared: Arc<Shared>) {
    while !shared.stopping.is_cancelled() {
        let mut together = tokio::select! {
            together = shared.floor.share() => Some(together),
            () = shared.stopping.cancelled() => return,
        };
        let mut claimed = claim(&shared).await;
        let found = claimed.is_some();
        while let Some((batch, asked)) = claimed.take() {
            if batch.attempts >= shared.settings.suspect_after {
                together = None;
                work_alone(&shared, batch, asked).await;
                break;
            }
            claimed = work_on(&shared, batch, asked).await;
        }
        drop(together);
        if !found {
            wait_for_work(&shared).await;
        }
    }
}

async fn wait_for_work(shared: &Shared) {
    let added = shared.work.added();
    if next_run(shared).is_some() {
        return;
    }
    tokio::select! {
        () = shared.stopping.cancelled() => {}
        () = added => {}
        // A breaker's pause may end without anybody adding work.
        () = tokio::time::sleep(shared.settings.poll) => {}
    }
}

/// The next run whose topics, as far as they are known, take messages.
fn next_run(shared: &Shared) -> Option<RunId> {
    shared.work.next(|run| {
        !shared.fan_outs.is_unreached(run) && shared.fan_outs.of_run(run).iter().all(|known| may_send(shared, known))
    })
}

/// Whether its topics take messages, or one batch may find out.
fn may_send(shared: &Shared, known: &KnownFanOut) -> bool {
    let goes = |topic: &String| !shared.breakers.is_in_trouble(topic) || shared.breakers.may_probe(topic);
    known.topics().iter().all(goes)
}

async fn claim(shared: &Shared) -> Option<(Batch, Instant)> {
    let run = next_run(shared)?;
    let claim_id = Uuid::new_v4();
    let asked = Instant::now();
    let claimed = shared.fleet.claim_next_batch(run, claim_id).await;
    fail::fail_point!("claim.after_commit");
    let found = match claimed {
        Ok(None) => {
            shared.work.exhausted(run);
            None
        }
        Ok(found) => found,
        // Who could not ask does not know that there is nothing.
        Err(error) => reread(shared, run, (claim_id, asked), &error).await,
    };
    found.map(|batch| (batch, asked))
}

/// The answer of a claim was lost: it may have been granted, and would then be held by nobody until its lease ends. So it is
/// asked for while most of the lease is left; that there is none is believed the second time, since the first try may still be on
/// its way.
async fn reread(shared: &Shared, run: RunId, (claim_id, asked): (Uuid, Instant), error: &FleetError) -> Option<Batch> {
    tracing::warn!(name: "claim_unanswered", %run, kind = "batch", %error, "a claim was not answered: it may have been granted");
    let mut is_none = false;
    loop {
        tokio::time::sleep(STORE_PAUSE).await;
        match shared.fleet.find_batch_claim(run, claim_id).await {
            Ok(None) if !std::mem::replace(&mut is_none, true) => {}
            Err(_) if asked.elapsed() < shared.settings.lease / 3 && !shared.hurry.is_cancelled() => {}
            answer => return answer.ok().flatten(),
        }
    }
}

async fn work_on(shared: &Shared, batch: Batch, asked: Instant) -> Option<(Batch, Instant)> {
    let booked = hold(shared, &batch, asked);
    work_held(shared, &batch, &booked.1, asked).await
}

/// A batch whose holders died, again and again, though others were in flight with it: with nothing else running, the
/// next death tells. An innocent one ends here like any other.
async fn work_alone(shared: &Shared, batch: Batch, asked: Instant) {
    let booked = hold(shared, &batch, asked);
    let held = &booked.1;
    match shared.floor.alone(shared.settings.lease).await {
        Some(_alone) => match shared.fleet.mark_alone(&batch.claim).await {
            Ok(Ended::Done) => {
                work_held(shared, &batch, held, asked).await;
            }
            Ok(Ended::Lost) => BatchTold::begin(&batch, asked, None).lost(),
            Err(error) => {
                tracing::warn!(name: "suspect_waits", run = %batch.claim.run, batch = batch.claim.seq, %error, "a batch whose holders died waits for its turn alone");
                wait_alone(shared, &batch, held, asked).await;
            }
        },
        None => wait_alone(shared, &batch, held, asked).await,
    }
}

/// A batch in the book, out of which it goes also when its worker panics: its lease is not renewed for nobody.
struct Booked<'a>(&'a Shared, Arc<HeldBatch>);

impl Drop for Booked<'_> {
    fn drop(&mut self) {
        self.0.book.drop_batch(&self.1.claim);
    }
}

async fn wait_alone(shared: &Shared, batch: &Batch, held: &HeldBatch, asked: Instant) {
    let told = BatchTold::begin(batch, asked, None);
    hand_back(shared, batch, held, ALONE_PAUSE, "waits to run alone", told).await;
}

fn hold<'a>(shared: &'a Shared, batch: &Batch, asked: Instant) -> Booked<'a> {
    let tracker = BatchTracker::new(batch.ids.len(), batch.delivered_bits.as_deref(), shared.window.clone());
    let held = Arc::new(HeldBatch {
        claim: batch.claim,
        tracker: Arc::new(tracker),
        lease: Lease::new(asked, shared.settings.trusted()),
    });
    shared.book.hold_batch(held.clone());
    Booked(shared, held)
}

async fn work_held(shared: &Shared, batch: &Batch, held: &HeldBatch, asked: Instant) -> Option<(Batch, Instant)> {
    let known = shared.fan_outs.of_batch(batch.claim.run, &batch.step).await;
    let mut told = BatchTold::begin(batch, asked, known.as_deref());
    let span = telemetry::batch_scope(batch);
    let end = stream(shared, batch, held, known, &mut told)
        .instrument(span.clone())
        .await;
    let recorded = told.recorded();
    let concluding = conclude(shared, batch, held, end, told);
    within(recorded, concluding.instrument(span)).await
}

async fn stream(
    shared: &Shared,
    batch: &Batch,
    held: &HeldBatch,
    known: Option<Arc<KnownFanOut>>,
    told: &mut BatchTold,
) -> BatchEnd {
    // This replica leaves its run alone for a while; the batch itself is free for whoever has its code.
    let Some(known) = known else {
        return BatchEnd::HandBack {
            delay: LONGEST_PAUSE,
            reason: "code not reached",
        };
    };
    let probes = match admit(shared, &known) {
        Ok(probes) => probes,
        Err(delay) => {
            return BatchEnd::HandBack {
                delay,
                reason: "breaker open",
            };
        }
    };
    // A source that panics must not take the worker with it, nor the lease, which would be renewed for nobody.
    let (end, tallies) = AssertUnwindSafe(Pipeline::new(shared, batch, held, &known, &probes, told).run())
        .catch_unwind()
        .await
        .unwrap_or_else(|_| {
            let panicked = anyhow::anyhow!("the source panicked");
            (source_failed(&known, batch, &panicked), Tallies::default())
        });
    tallies.end(&shared.breakers, probes);
    end
}

/// Asks the breakers of the topics this fan-out has used. An open one gives the batch back.
fn admit(shared: &Shared, known: &KnownFanOut) -> Result<Vec<(String, Probe)>, Duration> {
    let mut probes: Vec<(String, Probe)> = Vec::new();
    for topic in known.topics() {
        match shared.breakers.admit(&topic) {
            Admission::Go => {}
            Admission::Probe(probe) => probes.push((topic, probe)),
            Admission::Wait(until) => {
                for (topic, probe) in probes {
                    shared.breakers.probe_over(&topic, probe, ProbeEnd::NothingSent);
                }
                // The breaker keeps this replica from claiming it again; the batch itself is free for whoever can send.
                let pause = until.saturating_duration_since(Instant::now());
                return Err(pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
            }
        }
    }
    Ok(probes)
}

async fn conclude(
    shared: &Shared,
    batch: &Batch,
    held: &HeldBatch,
    end: BatchEnd,
    told: BatchTold,
) -> Option<(Batch, Instant)> {
    match end {
        BatchEnd::Settled(outcome) => finish(shared, batch, held, &outcome, told).await,
        BatchEnd::HandBack { delay, reason } => {
            hand_back(shared, batch, held, delay, reason, told).await;
            None
        }
        BatchEnd::SourceBroken(reason) => {
            fail_run(shared, batch, held, &reason, (told, closed::BatchEnd::SourceBroken)).await;
            None
        }
        BatchEnd::Lost => {
            say_lost(batch);
            told.lost();
            None
        }
    }
}

async fn finish(
    shared: &Shared,
    batch: &Batch,
    held: &HeldBatch,
    outcome: &BatchOutcome,
    told: BatchTold,
) -> Option<(Batch, Instant)> {
    let mut refused = 0;
    let (run, seq) = (batch.claim.run, batch.claim.seq);
    let why = loop {
        fail::fail_point!("finish.before_commit", |_| None);
        match try_finish(shared, batch, outcome).await {
            Ok((Ended::Done, next)) => {
                fail::fail_point!("finish.after_commit", |_| None);
                told.finished(outcome);
                // Whoever goes on with another fan-out may have finished the last batch of this one.
                let goes_on = |next: &Batch| next.claim.run == run && next.step == batch.step;
                if !next.as_ref().is_some_and(|(next, _)| goes_on(next)) {
                    complete(shared, batch).await;
                }
                return next;
            }
            Ok((Ended::Lost, _)) => {
                tracing::warn!(name: "taken_over", %run, batch = seq, token = batch.claim.token, "taken over before it was finished");
                told.lost();
                return None;
            }
            Err(FleetError::Damaged(why)) => break why,
            Err(FleetError::Refused(why)) if refused >= REFUSALS => break why,
            Err(error) => {
                refused += u32::from(matches!(error, FleetError::Refused(_)));
                tracing::warn!(name: "finish_delayed", %run, batch = seq, %error, "finish not written yet")
            }
        }
        // Not finished: it is neither done nor lost. Renewed as long as the database takes it, forgotten after.
        tokio::time::sleep(jittered(STORE_PAUSE)).await;
        if held.lease.fate() == Fate::Lost {
            told.lost();
            return None;
        }
    };
    // What became of the batch can never be written: kept, it would hold a worker for ever.
    tracing::error!(name: "batch_given_up", %run, batch = seq, why, "a batch cannot be finished: its run fails");
    let reason = format!("batch {seq} cannot be finished: {why}");
    fail_run(shared, batch, held, &reason, (told, closed::BatchEnd::GivenUp)).await;
    None
}

/// Gives the batch back and has its run fail.
async fn fail_run(
    shared: &Shared,
    batch: &Batch,
    held: &HeldBatch,
    reason: &str,
    (told, end): (BatchTold, closed::BatchEnd),
) {
    let given = give_back(shared, batch, held, Duration::from_secs(1), "source failed").await;
    if given {
        told.broken(end)
    } else {
        told.lost()
    }
    // A replica that may have lost its claim has no say in what becomes of the run.
    if held.lease.fate() != Fate::Held {
        return;
    }
    if let Err(error) = shared.fleet.request_stop(batch.claim.run, reason).await {
        tracing::warn!(name: "run_not_failed", run = %batch.claim.run, %error, "a run could not be failed: the next holder of its batch does it");
    }
}

async fn try_finish(
    shared: &Shared,
    batch: &Batch,
    outcome: &BatchOutcome,
) -> Result<(Ended, Option<(Batch, Instant)>), FleetError> {
    let next_run = if shared.stopping.is_cancelled() || shared.floor.is_wanted() {
        None
    } else {
        next_run(shared)
    };
    let all_delivered = outcome.is_clean() && outcome.delivered == batch.ids.len();
    let (true, Some(next_run)) = (all_delivered, next_run) else {
        let ended = shared.fleet.finish_batch(&batch.claim, &batch.ids, outcome).await?;
        return Ok((ended, None));
    };
    let (claim_id, asked) = (Uuid::new_v4(), Instant::now());
    match shared
        .fleet
        .finish_and_claim_batch(&batch.claim, next_run, claim_id)
        .await
    {
        // That nothing was claimed says little of a paced run: whoever asks for it alone finds out.
        Ok((ended, next)) => Ok((ended, next.map(|next| (next, asked)))),
        Err(error) => {
            // Both halves are one statement: if the next batch is ours, this one is finished.
            match reread(shared, next_run, (claim_id, asked), &error).await {
                Some(next) => Ok((Ended::Done, Some((next, asked)))),
                None => Err(error),
            }
        }
    }
}

/// Nothing more to claim: perhaps this was the last batch.
async fn complete(shared: &Shared, batch: &Batch) {
    match shared.fleet.complete_fan_out(batch.claim.run, &batch.step).await {
        Ok(true) => shared.hints.runs.notify_one(),
        Ok(false) => {}
        // The sweep completes it.
        Err(error) => {
            tracing::warn!(name: "fan_out_not_completed", run = %batch.claim.run, step = batch.step, %error, "a fan-out could not be completed: the sweep does it")
        }
    }
}

async fn hand_back(
    shared: &Shared,
    batch: &Batch,
    held: &HeldBatch,
    delay: Duration,
    reason: &'static str,
    told: BatchTold,
) {
    match give_back(shared, batch, held, delay, reason).await {
        true => told.handed_back(reason),
        false => told.lost(),
    }
}

/// False: it was not ours to give.
async fn give_back(shared: &Shared, batch: &Batch, held: &HeldBatch, delay: Duration, reason: &'static str) -> bool {
    let (run, seq) = (batch.claim.run, batch.claim.seq);
    let progress = held.tracker.progress();
    let back = HandBack {
        claim: batch.claim,
        delivered_bits: progress.as_ref().map(|(bits, _)| bits.clone()),
        delay,
        reason,
    };
    loop {
        match shared.fleet.hand_back_batches(std::slice::from_ref(&back)).await {
            Ok(0) => {
                say_lost(batch);
                return false;
            }
            Ok(_) => break,
            Err(error) => {
                tracing::warn!(name: "hand_back_delayed", %run, batch = seq, %error, "a batch is not handed back yet")
            }
        }
        tokio::time::sleep(jittered(STORE_PAUSE)).await;
        if held.lease.fate() == Fate::Lost {
            return false;
        }
    }
    if held.lease.fate() == Fate::Halted {
        // The last one to let go ends the run; the sweep does if this is not seen as the last.
        if let Err(error) = shared.fleet.settle_stop(run).await {
            tracing::warn!(name: "stop_not_settled", %run, %error, "a run that was stopped could not be ended: the sweep does it");
        }
    }
    true
}

fn say_lost(batch: &Batch) {
    let claim = &batch.claim;
    tracing::warn!(name: "lease_lost", kind = "batch", run = %claim.run, batch = claim.seq, token = claim.token, "lease lost, nothing is written");
}
