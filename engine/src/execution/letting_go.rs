//! How a run's holder lets go of it: it waits, has ended, or is to be run again.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use super::book::HeldRun;
use super::executor::Shared;
use super::owner_host::{Left, OwnerHost};
use super::waits::Stalled;
use crate::lifecycle::{Act, Ended, Ending, FleetError, LetGo};

/// Before a run is tried again whose store or source failed.
const RETRY: Duration = Duration::from_secs(1);

/// What the code came to: what it returned, or its panic.
pub(super) type Outcome = Result<anyhow::Result<Vec<u8>>, Box<dyn Any + Send>>;

/// Reads what reached the run.
pub(super) async fn hear(shared: &Shared, host: &OwnerHost) {
    match shared.runs.read_news(&[host.held.claim.run]).await {
        Ok(news) => news.into_iter().for_each(|news| host.hear(news)),
        // Letting go is refused as long as the news is not heard.
        Err(error) => tracing::warn!(run = %host.held.claim.run, %error, "could not read what reached the run"),
    }
}

/// Lets go of a run that waits; `None` when it goes on because something came meanwhile.
pub(super) async fn suspend(shared: &Shared, host: &OwnerHost, stalled: Stalled) -> Option<Left> {
    let act = Act::Wait {
        seen: stalled.seen,
        due_at: stalled.due_at,
        batches: stalled.batches,
        waits: stalled.waits,
    };
    fail::fail_point!("suspend.before_commit");
    let gone = ask(shared, &host.held, act, stalled.batches).await;
    fail::fail_point!("suspend.after_commit");
    match gone {
        Ok(LetGo::Done) => Some(Left::Gone),
        Ok(LetGo::Lost) => Some(Left::Lost),
        Ok(LetGo::Held(poked)) if poked.halted => Some(Left::Halted),
        Ok(LetGo::Held(_)) if shared.stopping.is_cancelled() => Some(Left::Retry("this replica stops".to_owned())),
        Ok(LetGo::Held(_)) => {
            hear(shared, host).await;
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
    };
    shared.endings.let_go(held, ending).await
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// Ends a run whose code has ended.
pub(super) async fn end(shared: &Shared, host: &OwnerHost, outcome: Outcome) -> Left {
    fail::fail_point!("run.before_end", |_| Left::Lost);
    if let Some(how) = host.never_asked() {
        return Left::Diverged(how);
    }
    let written = match outcome {
        Ok(Ok(output)) => ask(shared, &host.held, Act::Complete { output }, host.has_batches()).await,
        Ok(Err(error)) => fail(shared, host, format!("{error:#}")).await,
        Err(panic) => {
            fail(
                shared,
                host,
                format!("the workflow's code panicked: {}", panic_text(&*panic)),
            )
            .await
        }
    };
    match written {
        Ok(LetGo::Done) => {
            fail::fail_point!("run.after_end", |_| Left::Gone);
            Left::Gone
        }
        // Taken over, or ended by a request whose answer was lost: either way no longer ours.
        Ok(LetGo::Lost) => Left::Lost,
        // Stopped or paused meanwhile: the row decides.
        Ok(LetGo::Held(_)) => Left::Halted,
        Err(error) => Left::Retry(error.to_string()),
    }
}

async fn fail(shared: &Shared, host: &OwnerHost, reason: String) -> Result<LetGo, FleetError> {
    let claim = &host.held.claim;
    tracing::error!(run = %claim.run, reason, "the run failed");
    let act = Act::Fail { reason: reason.clone() };
    match ask(shared, &host.held, act, host.has_batches()).await? {
        // Batches of it are unfinished, or it was stopped or paused: it ends when they are back.
        LetGo::Held(_) => match shared.fleet.fail_claimed_run(claim, &reason).await? {
            Ended::Done => Ok(LetGo::Done),
            Ended::Lost => Ok(LetGo::Lost),
        },
        decided => Ok(decided),
    }
}

/// Gives the claim up as fits.
pub(super) async fn let_go(shared: &Shared, held: &Arc<HeldRun>, seen: i64, left: Left) -> Result<(), FleetError> {
    let act = match left {
        Left::Gone | Left::Lost => return Ok(()),
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
            tracing::warn!(run = %held.claim.run, why, "the run's code is run again in a moment");
            let stops = shared.stopping.is_cancelled();
            Some(hand_back(if stops { Duration::ZERO } else { RETRY }, Some(why)))
        }
        Left::Diverged(reason) => {
            tracing::error!(run = %held.claim.run, reason, "the run is set aside");
            Some(Act::Quarantine { reason })
        }
    };
    if let Some(act) = act {
        ask(shared, held, act, true).await?;
    }
    shared.fleet.settle_stop(held.claim.run).await?;
    Ok(())
}

fn hand_back(delay: Duration, reason: Option<String>) -> Act {
    Act::HandBack { delay, reason }
}
