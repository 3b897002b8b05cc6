//! The causes in words: what holds the run, since or until when, and what to do about it.

use std::fmt;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Cause, OpenStep};

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            &halt(self)
                .or_else(|| fleet(self))
                .or_else(|| work(self))
                .unwrap_or_default(),
        )
    }
}

fn halt(cause: &Cause) -> Option<String> {
    Some(match cause {
        Cause::UnknownRun => "there is no such run".to_owned(),
        Cause::Over { status, at, reason } => format!("it is over: {status} at {}{}", time(at), because(reason)),
        Cause::StopRequested {
            to,
            since,
            reason,
            undoing,
            batches_in_flight,
            code_running,
        } => {
            let waits = match (*batches_in_flight, *code_running) {
                (0, _) if *undoing => "its code undoes what it did".to_owned(),
                (0, false) => "the sweep ends it".to_owned(),
                (0, true) => "it waits for its code to stop".to_owned(),
                (1, _) => "it waits for 1 batch in flight".to_owned(),
                (n, _) => format!("it waits for {n} batches in flight"),
            };
            format!(
                "a stop was requested{}{}; {waits}, then it is {to}",
                from(since),
                because(reason)
            )
        }
        Cause::Quarantined { since, reason } => {
            format!(
                "it is quarantined{}{}; look at it, then resume or cancel it",
                from(since),
                because(reason)
            )
        }
        Cause::Paused { since, reason } => format!("it is paused{}{}; resume it", from(since), because(reason)),
        Cause::BeforeStart { until } => format!("it starts no earlier than {}", time(until)),
        Cause::QueuedBehind {
            run_id,
            status,
            schedule,
        } => {
            let of = schedule
                .as_ref()
                .map(|name| format!(" of schedule {name}"))
                .unwrap_or_default();
            format!("it is queued behind run {run_id}{of}, which is {status}")
        }
        Cause::CallerDriven => "no replica runs it: whoever started it drives it by the six verbs".to_owned(),
        _ => return None,
    })
}

fn fleet(cause: &Cause) -> Option<String> {
    Some(match cause {
        Cause::NoReplica { workflow } => {
            format!("no live replica has workflow {workflow}; start one that does (`run`)")
        }
        Cause::NoVersion {
            workflow,
            version,
            replayed,
        } => {
            format!(
                "it began with version {version} of workflow {workflow}, which no live replica replays, only {}; start one whose \
                 REPLAYS has it",
                ranges(replayed)
            )
        }
        Cause::AllDraining { workflow, replicas } => {
            format!("all {replicas} live replicas with workflow {workflow} are draining; start another one")
        }
        Cause::NoBrokers { workflow, replicas } => format!(
            "no live replica with workflow {workflow} has brokers, of {replicas}: its batches wait; start one that has KAFKA_BROKERS"
        ),
        Cause::BreakerOpen {
            topic,
            state,
            since,
            reason,
            replicas,
        } => {
            let on = if *replicas == 1 {
                "1 replica".to_owned()
            } else {
                format!("{replicas} replicas")
            };
            format!(
                "the breaker of topic {topic} is {}{} on {on}{}",
                state.replace('_', "-"),
                from(since),
                because(reason)
            )
        }
        Cause::LeaseOverdue {
            replica,
            batches,
            code,
            since,
        } => {
            let what = match (*batches, *code) {
                (0, _) => "its code".to_owned(),
                (n, true) => format!("its code and {}", batches_in_words(n)),
                (n, false) => batches_in_words(n),
            };
            format!(
                "{what} held by replica {replica} whose lease is over{}; waiting for the sweep",
                from(since)
            )
        }
        Cause::NoLeader { since } => {
            format!(
                "no replica leads{}: nothing is swept, fired or pruned; start one with the role leader",
                from(since)
            )
        }
        _ => return None,
    })
}

fn work(cause: &Cause) -> Option<String> {
    Some(match cause {
        Cause::Planning { step, replica, trouble } => planning(step, *replica, trouble.as_deref()),
        Cause::BatchesHeld {
            replica,
            batches,
            until,
        } => {
            format!(
                "{} held by replica {replica}{}, renewed while it lives",
                batches_in_words(*batches),
                to(until)
            )
        }
        Cause::WindowFull { replica, used, size } => {
            format!(
                "the window of replica {replica} is full ({used} of {size} items await their outcome); the broker is slow or away"
            )
        }
        Cause::WaitingForRetry { batches, until } => {
            format!(
                "{} waiting for a retry until {}",
                batches_in_words(*batches),
                time(until)
            )
        }
        Cause::Pacing { until } => format!("it is paced: the next batch may be claimed at {}", time(until)),
        Cause::WakesLater { until } => format!("its code runs again at {}", time(until)),
        Cause::StepWaits(step) => {
            let until = step.until.as_ref().map(time);
            match (step.kind.as_str(), until) {
                ("sleep", Some(until)) => format!("step {} sleeps until {until}", step.step),
                ("signal", Some(until)) => {
                    format!("step {} waits for its signal, no longer than until {until}", step.step)
                }
                ("signal", None) => format!("step {} waits for its signal: send it", step.step),
                ("child", _) => waits_for_child(step),
                (_, Some(until)) => format!("step {} failed and is tried again at {until}", step.step),
                (_, None) => format!("step {} waits", step.step),
            }
        }
        Cause::Queue(cause) => cause.to_string(),
        Cause::WaitsToBeWoken => "it waits to be woken: nothing of it is to do until something wakes it".to_owned(),
        Cause::OldSnapshot(snapshot) => {
            let by = snapshot.application.as_deref().filter(|name| !name.is_empty());
            let by = by.map(|name| format!(" ({name})")).unwrap_or_default();
            format!(
                "an old snapshot is held by pid {}{by} since {}: vacuum cannot clean up and everything slows; end that transaction",
                snapshot.pid,
                time(&snapshot.since)
            )
        }
        Cause::NothingHolds {
            finished_last_minute,
            batches_waiting,
            batches_in_flight,
        } => format!(
            "nothing holds it: {} finished in the last minute, {batches_waiting} waiting, {batches_in_flight} in flight",
            batches_in_words(*finished_last_minute)
        ),
        _ => return None,
    })
}

fn ranges(versions: &[[u32; 2]]) -> String {
    let ranges = versions.iter().map(|[first, last]| match first == last {
        true => first.to_string(),
        false => format!("{first} to {last}"),
    });
    ranges.collect::<Vec<_>>().join(", ")
}

fn batches_in_words(count: i64) -> String {
    if count == 1 {
        "1 batch".to_owned()
    } else {
        format!("{count} batches")
    }
}

fn time(time: &DateTime<Utc>) -> impl fmt::Display + use<> {
    time.format("%Y-%m-%d %H:%M:%SZ")
}

fn from(since: &Option<DateTime<Utc>>) -> String {
    since
        .as_ref()
        .map(|at| format!(" since {}", time(at)))
        .unwrap_or_default()
}

fn to(until: &Option<DateTime<Utc>>) -> String {
    until
        .as_ref()
        .map(|at| format!(" until {}", time(at)))
        .unwrap_or_default()
}

fn because(reason: &Option<String>) -> String {
    reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default()
}

fn planning(step: &str, replica: Option<Uuid>, trouble: Option<&str>) -> String {
    let who = replica.map_or_else(
        || " and no replica works on it at the moment".to_owned(),
        |replica| format!("; replica {replica} works on it"),
    );
    let trouble = trouble.map_or_else(String::new, |why| {
        format!(", but its source cannot be read and is tried again: {why}")
    });
    format!("planning of step {step} is not finished{who}{trouble}")
}

fn waits_for_child(step: &OpenStep) -> String {
    match (&step.child, step.child_status.as_deref()) {
        (Some(child), Some(status)) => format!("step {} waits for its child {child}, which is {status}", step.step),
        _ => format!("step {} waits for its child, which is not there any more", step.step),
    }
}
