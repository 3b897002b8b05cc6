//! The caller: one thread that submits at a pace, whatever becomes of it, and times every call.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use lockgate::delivery::{Direct, Handover, NotificationOrchestrator};
use uuid::Uuid;

use super::welcome;

/// How many commands at which rate. A caller that was held up catches up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) per_s: u64,
    pub(super) commands: u64,
}

impl Pace {
    pub(super) fn new(per_s: u64, commands: u64) -> Self {
        Self { per_s, commands }
    }
}

/// Commands that were submitted, and what each call took.
pub(super) struct Submitted {
    pub(super) begun: DateTime<Utc>,
    /// Accepted commands, and when after the beginning each was.
    pub(super) accepted: Vec<(Uuid, Duration)>,
    pub(super) not_accepted: u64,
    /// Nanoseconds of each call of `submit`, ascending.
    pub(super) nanos: Vec<u32>,
    /// The same with what a caller does right before: making the message's id and taking the trace's.
    pub(super) nanos_with_id: Vec<u32>,
}

/// Submits on the calling thread.
pub(super) fn submit(orchestrator: &NotificationOrchestrator, pace: Pace) -> anyhow::Result<Submitted> {
    let count = usize::try_from(pace.commands)?;
    let mut accepted = Vec::with_capacity(count);
    let (mut nanos, mut nanos_with_id) = (vec![0u32; count], vec![0u32; count]);
    let (begun, start) = (Utc::now(), Instant::now());
    let mut not_accepted = 0;
    for number in 0..pace.commands {
        let due = Duration::from_nanos(number * 1_000_000_000 / pace.per_s);
        if let Some(early) = due.checked_sub(start.elapsed()) {
            std::thread::sleep(early);
        }
        let command = welcome(number);
        let made = Instant::now();
        let direct = Direct::new(command);
        let message_id = direct.message_id;
        let before = Instant::now();
        let handover = orchestrator.submit(direct);
        let after = Instant::now();
        nanos[usize::try_from(number)?] = in_nanos(after - before);
        nanos_with_id[usize::try_from(number)?] = in_nanos(after - made);
        match handover {
            Handover::Accepted => accepted.push((message_id, before - start)),
            Handover::NotAccepted(_) => not_accepted += 1,
            Handover::Invalid(invalid) => return Err(invalid.into()),
        }
    }
    nanos.sort_unstable();
    nanos_with_id.sort_unstable();
    Ok(Submitted {
        begun,
        accepted,
        not_accepted,
        nanos,
        nanos_with_id,
    })
}

fn in_nanos(took: Duration) -> u32 {
    u32::try_from(took.as_nanos()).unwrap_or(u32::MAX)
}

/// Microseconds that so many in a thousand calls stayed below.
pub(super) fn per_mille_us(nanos: &[u32], per_mille: usize) -> f64 {
    let at = (nanos.len() * per_mille / 1000).min(nanos.len().saturating_sub(1));
    nanos.get(at).map_or(0.0, |nanos| f64::from(*nanos) / 1e3)
}
