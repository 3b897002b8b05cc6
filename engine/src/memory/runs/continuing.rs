//! Runs that go on as others.

use chrono::{DateTime, Utc};

use super::Runs;
use super::run::Status;
use super::views::RunStart;
use crate::lifecycle::{Continuation, FleetError, Holds, LetGo, ManagerError, RunRequest};
use crate::telemetry::link_after;

impl Runs {
    /// Each is judged by its own claim.
    pub(super) fn go_on(&mut self, group: &[Continuation], now: DateTime<Utc>) -> Result<Vec<LetGo>, FleetError> {
        let refused = |error: ManagerError| FleetError::Refused(error.to_string());
        self.check_room(group.len()).map_err(refused)?;
        Ok(group.iter().map(|run| self.go_on_as(run, now)).collect())
    }

    fn go_on_as(&mut self, asked: &Continuation, now: DateTime<Utc>) -> LetGo {
        let Some(run) = self.held(&asked.claim) else {
            return LetGo::Lost;
        };
        let unfinished = asked.had_batches && run.unfinished() != (0, 0);
        if run.stop.is_some() || run.status != Status::Running || run.wake_seq != asked.seen || unfinished {
            return LetGo::Held(run.poked());
        }
        run.status = Status::Completed;
        run.finished_at = Some(now);
        run.continued_as = Some(asked.next);
        run.ready = None;
        run.merge_attributes(asked.attributes.as_ref());
        run.end_claim(
            Status::Running,
            Status::Completed.as_str(),
            Some(format!("continued as {}", asked.next)),
        );
        let untaken = run.signals.iter().filter(|stored| stored.consumed_by.is_none());
        let mut signals: Vec<_> = untaken.cloned().collect();
        for (seq, stored) in (1..).zip(&mut signals) {
            stored.signal.seq = seq;
        }
        run.signals.retain(|stored| stored.consumed_by.is_some());
        let start = RunStart {
            request: RunRequest {
                id: asked.next,
                params: asked.params.clone(),
                origin_id: None,
                traceparent: run
                    .request
                    .traceparent
                    .as_deref()
                    .map(|given| link_after(asked.claim.run, given)),
                slot: None,
                idempotency_key: None,
                start_at: None,
                ..run.request.clone()
            },
            queue: run.queue.clone(),
            priority: run.priority,
            after_run: None,
            tenant: run.tenant.clone(),
            limit_key: run.limit_key.clone(),
            debounce_key: None,
            attributes: run.attributes.clone(),
        };
        let (parent, deadline_at) = (run.parent.clone(), run.deadline_at);
        // It goes on in its place in its queue, too.
        let holds = run.holds.filter(|holds| *holds == Holds::Run);
        self.queue(start, parent, now);
        if let Some(next) = self.by_id.get_mut(&asked.next) {
            // It was woken once: what it was told is read with its first claim.
            (next.signals, next.wake_seq, next.deadline_at, next.holds) = (signals, 1, deadline_at, holds);
        }
        LetGo::Done
    }
}
