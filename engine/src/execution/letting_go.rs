//! How a run's holder lets go of it: it waits, has ended, or is to be run again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::book::HeldRun;
use super::child_steps::{look_after_family, look_after_followers};
use super::executor::Shared;
use super::owner_host::{Left, OwnerHost};
use super::undoing::End;
use super::waits::Stalled;
use crate::lifecycle::{Act, Continuation, Ended, Ending, FleetError, LetGo, RunId, derived_id};
use crate::telemetry::closed::{RunEnd, StartedBy};

/// Before a run is tried again whose store or source failed.
const RETRY: Duration = Duration::from_secs(1);

/// Lets go of a run that waits; `None` when it goes on because something came meanwhile.
pub(super) async fn suspend(shared: &Shared, host: &OwnerHost, stalled: Stalled) -> Option<Left> {
    match host.hear_children().await {
        Ok(true) => return None,
        // An end after this look wakes the run, and refuses the wait.
        Ok(false) => {}
        Err(error) => return Some(Left::Retry(error.to_string())),
    }
    let Stalled {
        seen,
        due_at,
        batches,
        waits,
    } = stalled;
    let act = match host.is_to_stop() {
        true => Act::WaitToUndo { seen, due_at, waits },
        false => Act::Wait {
            seen,
            due_at,
            batches,
            waits,
        },
    };
    let has_timer = due_at.is_some();
    fail::fail_point!("suspend.before_commit");
    let gone = ask(shared, &host.held, act, batches).await;
    fail::fail_point!("suspend.after_commit");
    match gone {
        Ok(LetGo::Done) => {
            // It may end before whoever looks for runs meant to look again.
            if has_timer && shared.rests.load(Ordering::Relaxed) {
                shared.hints.runs.notify_one();
            }
            Some(Left::Gone)
        }
        Ok(LetGo::Lost) => Some(Left::Lost),
        Ok(LetGo::Held(poked)) if poked.forced => Some(Left::Halted),
        Ok(LetGo::Held(_)) if shared.stopping.is_cancelled() => Some(Left::Retry("this replica stops".to_owned())),
        Ok(LetGo::Held(poked)) => {
            if poked.halted {
                host.unwind(true);
            }
            host.hear_news().await;
            None
        }
        Err(error) => Some(Left::Retry(error.to_string())),
    }
}

async fn ask(shared: &Shared, held: &Arc<HeldRun>, act: Act, had_batches: bool) -> Result<LetGo, FleetError> {
    let ending = Ending {
        claim: held.claim,
        act,
        had_batches,
        attributes: held.attributes(),
    };
    shared.endings.let_go(held, ending).await
}

/// Ends a run whose code has ended.
pub(super) async fn end(shared: &Shared, host: &OwnerHost, end: End) -> Left {
    fail::fail_point!("run.before_end", |_| Left::Lost);
    let goes_on = matches!(end, End::GoesOn(_));
    let ends_as = match &end {
        End::GoesOn(_) => RunEnd::Continued,
        End::Completed(_) => RunEnd::Completed,
        End::Failed(_) | End::Unwound | End::NotUndone(..) => RunEnd::Failed,
    };
    let as_itself = |gone: LetGo| (gone, EndsAs::Itself);
    let written = match end {
        End::GoesOn(params) => go_on(shared, host, &params).await.map(as_itself),
        End::Completed(output) => {
            let gone = ask(shared, &host.held, Act::Complete { output }, host.has_batches()).await;
            gone.map(as_itself)
        }
        End::Failed(reason) => fail(shared, host, reason).await,
        End::Unwound => return Left::Unwound,
        End::NotUndone(reason, waits) => return Left::NotUndone(reason, waits),
    };
    match written {
        Ok((LetGo::Done, ended)) => {
            fail::fail_point!("run.after_end", |_| Left::Gone);
            match ended {
                EndsAs::Stopped => host.told.settled(ends_as),
                EndsAs::Itself => host.told.ended(ends_as, goes_on.then(|| next_of(host.run.id))),
            }
            if goes_on {
                host.told.meter().runs_started(StartedBy::Continued, 1);
            }
            // Who goes on in its place answers to its parent.
            let parent = host.run.parent_id.filter(|_| !goes_on);
            look_after_family(shared, host.run.id, parent, host.has_unread_children()).await;
            if host.run.scheduled {
                look_after_followers(shared, host.run.id).await;
            }
            Left::Gone
        }
        // Taken over, or ended by a request whose answer was lost: either way no longer ours.
        Ok((LetGo::Lost, _)) => Left::Lost,
        // Stopped or paused meanwhile: the row decides.
        Ok((LetGo::Held(_), _)) => Left::Halted,
        Err(error) => Left::Retry(error.to_string()),
    }
}

/// The run that goes on in place of this one.
fn next_of(run: RunId) -> RunId {
    derived_id(run, "continued")
}

/// Ends the run by starting the one that goes on in its place.
async fn go_on(shared: &Shared, host: &OwnerHost, params: &[u8]) -> Result<LetGo, FleetError> {
    let claim = host.held.claim;
    let run = Continuation {
        claim,
        next: next_of(claim.run),
        params: params.to_vec(),
        seen: host.seen(),
        had_batches: host.has_batches(),
        attributes: host.held.attributes(),
    };
    shared.continuations.go_on(&host.held, run).await
}

/// Who tells of an end.
enum EndsAs {
    /// Whoever writes it.
    Itself,
    /// It ends as what is stopped does, now or when its batches are back: what ends it leaves word for the leader.
    Stopped,
}

async fn fail(shared: &Shared, host: &OwnerHost, reason: String) -> Result<(LetGo, EndsAs), FleetError> {
    let claim = &host.held.claim;
    let act = Act::Fail { reason: reason.clone() };
    let (gone, ends_as, halted) = match ask(shared, &host.held, act, host.has_batches()).await? {
        // Batches of it are unfinished, or it was stopped or paused: it ends when they are back.
        LetGo::Held(poked) => {
            let ended = shared.fleet.fail_claimed_run(claim, &reason).await?;
            let gone = match ended {
                Ended::Done => LetGo::Done,
                Ended::Lost => LetGo::Lost,
            };
            (gone, EndsAs::Stopped, poked.halted)
        }
        decided => (decided, EndsAs::Itself, false),
    };
    // Only now: another may have it by now, and complete it; and what was cancelled ends as that.
    if gone == LetGo::Done && !halted {
        tracing::error!(name: "run_failed", run = %claim.run, reason, "the run failed");
    }
    Ok((gone, ends_as))
}

/// Gives the claim up as fits; answers how that ended the run, if it did.
pub(super) async fn let_go(
    shared: &Shared,
    held: &Arc<HeldRun>,
    seen: i64,
    left: Left,
) -> Result<Option<RunEnd>, FleetError> {
    let act = match left {
        Left::Gone | Left::Lost => return Ok(None),
        Left::Halted => {
            let act = Act::Wait {
                seen,
                due_at: None,
                batches: true,
                waits: Vec::new(),
            };
            // A paused run sleeps until it is resumed; a stopped one ends when its batches are back.
            match ask(shared, held, act, true).await? {
                LetGo::Held(_) => Some(hand_back(Duration::ZERO, None)),
                LetGo::Done | LetGo::Lost => None,
            }
        }
        Left::Retry(why) => {
            tracing::warn!(name: "run_again", run = %held.claim.run, why, "the run's code is run again in a moment");
            let stops = shared.stopping.is_cancelled();
            Some(hand_back(if stops { Duration::ZERO } else { RETRY }, Some(why)))
        }
        Left::Overran(limit) => {
            let limit = humantime::format_duration(limit);
            let reason = format!("its code ran longer than max_attempt of its queue ({limit})");
            tracing::warn!(name: "run_dropped", run = %held.claim.run, reason, "the run's code is dropped");
            Some(Act::Overrun { reason })
        }
        Left::Diverged(reason) => {
            tracing::error!(name: "run_set_aside", run = %held.claim.run, reason, "the run is set aside");
            Some(Act::Quarantine { reason })
        }
        Left::Unwound => Some(Act::Unwound),
        Left::NotUndone(reason, waits) => {
            tracing::error!(name: "run_set_aside", run = %held.claim.run, reason, "the run is set aside");
            Some(Act::NotUndone { reason, waits })
        }
    };
    let mut ended = None;
    if let Some(act) = act {
        let sets_aside = matches!(act, Act::Quarantine { .. } | Act::NotUndone { .. });
        let gone = ask(shared, held, act, true).await?;
        ended = (sets_aside && gone == LetGo::Done).then_some(RunEnd::Quarantined);
    }
    let stopped = shared.fleet.settle_stop(held.claim.run).await?;
    Ok(if stopped { Some(RunEnd::Cancelled) } else { ended })
}

fn hand_back(delay: Duration, reason: Option<String>) -> Act {
    Act::HandBack { delay, reason }
}
