//! Runs that begin with the steps of others, which are over.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::Runs;
use super::run::{Repeats, Run, Status};
use super::views::RunStart;
use crate::inspect::NotRepeated;
use crate::lifecycle::{Again, Kind, LARGEST_PARAMS, RepeatRun, RunId, RunRequest, StepState, StepStatus};
use crate::telemetry::link_after;
use crate::workflow::{Place, UNDO, is_undo, undo_path};

/// The numbers of a step's path: ordinal, then branch and ordinal for each branch; none for what has no ordinal.
type Numbers = Vec<Option<u32>>;

/// How a step stands to a place from which on all is done again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    Before,
    /// In another branch.
    Beside,
    /// There, or behind it.
    Behind,
}

impl Runs {
    /// Starts a run that does again what another one did, which is over.
    pub(super) fn repeat(&mut self, repeat: &RepeatRun, now: DateTime<Utc>) -> Result<RunId, NotRepeated> {
        if self.by_id.contains_key(&repeat.id) {
            return Ok(repeat.id);
        }
        let asked = self.by_id.get(&repeat.run).ok_or(NotRepeated::Unknown(repeat.run))?;
        let names_its_own = repeat.from.as_ref().is_some_and(|from| asked.has_step(from));
        let of = if names_its_own {
            repeat.run
        } else {
            self.last_run(repeat.run)
        };
        let was = self.by_id.get(&of).ok_or(NotRepeated::Unknown(repeat.run))?;
        let roots = was.roots(repeat)?;
        let parents = self.by_id.values().filter_map(|run| run.parent.as_ref());
        let detached = parents.filter(|above| above.run == of && above.detached);
        let detached = detached.map(|above| above.path.as_str()).collect();
        let starts_over = matches!(repeat.again, Again::Fork { .. }) && repeat.from.is_none();
        let kept = if starts_over {
            BTreeSet::new()
        } else {
            was.steps_before(&roots, &detached)
        };
        let (params, keep_ids) = match &repeat.again {
            Again::Retry => (None, true),
            Again::Fork {
                params,
                keep_message_ids,
            } => (params.clone(), *keep_message_ids),
        };
        let key = &was.request.singleton_key;
        let holds_key = |run: &Run| !run.status.is_over() && run.request.singleton_key == *key;
        if let Some(key) = key.as_ref().filter(|_| self.by_id.values().any(holds_key)) {
            return Err(NotRepeated::Held(key.clone()));
        }
        let is_untaken = |taken: &Option<String>| taken.as_ref().is_none_or(|path| !kept.contains(path));
        let untaken = was.signals.iter().filter(|stored| is_untaken(&stored.consumed_by));
        let mut signals: Vec<_> = untaken.filter(|_| params.is_none()).cloned().collect();
        signals.iter_mut().for_each(|stored| stored.consumed_by = None);
        let steps = kept.iter().filter_map(|path| was.steps.get(path));
        let steps = steps.map(|step| (step.path.clone(), copied(step))).collect();
        let begun = (!kept.is_empty()).then_some((was.code_version, was.started_at));
        let (start, repeats) = was.again(repeat.id, params, keep_ids);
        self.queue(start, None, now);
        if let Some(run) = self.by_id.get_mut(&repeat.id) {
            run.wake_seq = i64::try_from(signals.len()).unwrap_or(i64::MAX);
            (run.signals, run.steps, run.repeats) = (signals, steps, Some(repeats));
            (run.code_version, run.started_at) = begun.unwrap_or_default();
        }
        let (how, reason) = (repeat.again.in_words(), repeat.reason.clone());
        if let Some(was) = self.by_id.get_mut(&of) {
            was.note(Some(was.status), how, reason);
        }
        Ok(repeat.id)
    }
}

impl Again {
    fn in_words(&self) -> &'static str {
        match self {
            Self::Retry => "retried",
            Self::Fork { .. } => "forked",
        }
    }
}

impl Run {
    /// Where it is to begin again; nowhere: where its record ends.
    fn roots(&self, repeat: &RepeatRun) -> Result<Vec<String>, NotRepeated> {
        let run = repeat.run;
        if !self.status.is_over() {
            return Err(NotRepeated::NotOver(run, self.status.as_str().to_owned()));
        }
        if let Again::Fork {
            params: Some(params), ..
        } = &repeat.again
            && params.len() > LARGEST_PARAMS
        {
            return Err(NotRepeated::TooLarge);
        }
        if let Some(from) = &repeat.from {
            return self.find_step(run, from).map(|path| vec![path]);
        }
        if repeat.again != Again::Retry {
            return Ok(Vec::new());
        }
        if self.status == Status::Completed {
            return Err(NotRepeated::Completed(run));
        }
        let failed = self.failed().filter(|step| self.lost_by(&step.path).is_none());
        let last = failed.min_by_key(|step| (Reverse(step.finished_at), step.path.clone()));
        Ok(last.map(|step| step.path.clone()).into_iter().collect())
    }

    fn has_step(&self, from: &str) -> bool {
        !matches!(self.find_step(self.id(), from), Err(NotRepeated::NoStep { .. }))
    }

    /// The step of this path, or else the one of this name, in words for whoever asked for this run.
    fn find_step(&self, run: RunId, from: &str) -> Result<String, NotRepeated> {
        const NAMED: usize = 5;
        let step = from.to_owned();
        let steps = || self.done().filter(|step| step.kind != Kind::Version);
        if steps().any(|step| step.path == from) {
            return Ok(step);
        }
        let is_named = |step: &&StepState| Place::of_path(&step.path).is_some_and(|place| place.name == from);
        let named: Vec<&str> = steps()
            .filter(is_named)
            .map(|step| step.path.as_str())
            .take(NAMED)
            .collect();
        match named.as_slice() {
            [] => Err(NotRepeated::NoStep { run, step }),
            [path] => Ok((*path).to_owned()),
            several => Err(NotRepeated::Ambiguous {
                run,
                step,
                paths: several.join(", "),
            }),
        }
    }

    /// All steps but those that undo others.
    fn done(&self) -> impl Iterator<Item = &StepState> {
        self.steps.values().filter(|step| !is_undo(&step.path))
    }

    fn failed(&self) -> impl Iterator<Item = &StepState> {
        self.done().filter(|step| step.status == StepStatus::Failed)
    }

    /// Paths of the steps that were taken back; what could not be, stands.
    fn undone(&self) -> impl Iterator<Item = &str> {
        let ended = self.steps.values().filter(|step| step.status == StepStatus::Completed);
        ended.filter_map(|step| step.path.strip_prefix(UNDO)?.strip_prefix('/'))
    }

    /// The innermost select above a step that another branch has won.
    fn lost_by(&self, path: &str) -> Option<Numbers> {
        self.lost_selects(path).last().map(|(end, _)| numbers(&path[..*end]))
    }

    /// From where on all is done again: these places, what was taken back, and what failed in other branches. What a branch did
    /// that lost a select counts only where that select is decided again.
    fn all_roots(&self, from: &[String]) -> BTreeSet<Numbers> {
        let counts = |path: &&str| self.lost_by(path).is_none();
        let base = from.iter().map(String::as_str).chain(self.undone().filter(counts));
        let base: BTreeSet<Numbers> = base.map(numbers).collect();
        let failed = || self.failed().map(|step| step.path.as_str());
        let beside = failed().filter(counts).map(numbers);
        let beside = beside.filter(|place| base.iter().any(|root| stands(place, root) == Some(Stands::Beside)));
        let mut roots: BTreeSet<Numbers> = beside.chain(base.iter().cloned()).collect();
        let lost = self.undone().chain(failed());
        let lost: Vec<(Numbers, Numbers)> = lost
            .filter_map(|path| Some((numbers(path), self.lost_by(path)?)))
            .collect();
        loop {
            let above = |root: &Numbers| {
                (1..root.len())
                    .step_by(2)
                    .map(|end| root[..end].to_vec())
                    .collect::<Vec<_>>()
            };
            let again: BTreeSet<Numbers> = roots.iter().flat_map(above).collect();
            let before = roots.len();
            let more = lost.iter().filter(|(_, select)| again.contains(select));
            roots.extend(more.map(|(place, _)| place.clone()));
            if roots.len() == before {
                return roots;
            }
        }
    }

    /// The steps that are over and that what is done again from these places on does not touch, and what undid them.
    fn steps_before(&self, from: &[String], detached: &BTreeSet<&str>) -> BTreeSet<String> {
        let roots = self.all_roots(from);
        let judged = |step: &StepState| {
            let place = numbers(&step.path);
            let stands: Vec<_> = roots.iter().map(|root| stands(&place, root)).collect();
            (stands.contains(&Some(Stands::Behind)), stands.contains(&None))
        };
        let behind = self.done().filter(|step| judged(step).0);
        let cut = behind.map(|step| step.started_at).min();
        let kept = self.done().filter(|step| {
            let is_over = match step.status {
                StepStatus::Open => false,
                // Nobody knows what was dropped; but a child that is nobody's is not started twice.
                StepStatus::Dropped => step.kind == Kind::Child && detached.contains(step.path.as_str()),
                StepStatus::Completed | StepStatus::Failed => true,
            };
            let (behind, unknown) = judged(step);
            // Of what has no ordinal the clock tells whether it came before.
            let is_late = unknown && cut.is_some_and(|cut| step.started_at > cut);
            is_over && !behind && !is_late
        });
        let mut kept: BTreeSet<String> = kept.map(|step| step.path.clone()).collect();
        // What a branch took back that lost a select is not taken back once more.
        let undone: Vec<String> = self
            .undone()
            .filter(|path| kept.contains(*path))
            .map(undo_path)
            .collect();
        kept.extend(undone);
        kept
    }

    /// The same once more, under this id.
    fn again(&self, id: RunId, params: Option<Vec<u8>>, keep_ids: bool) -> (RunStart, Repeats) {
        let (was, before) = (&self.request, self.repeats.as_ref());
        let own_origin = was.origin_id.unwrap_or(self.id());
        let origin = if keep_ids { own_origin } else { id };
        let seed = before.and_then(|before| before.seed_id).unwrap_or(own_origin);
        let slot = was.slot.as_ref().map(|(_, slot)| *slot);
        let repeats = Repeats {
            seed_id: (seed != origin).then_some(seed),
            slot: slot.or(before.and_then(|before| before.slot)),
            nominal_at: before.map_or(self.created_at, |before| before.nominal_at),
        };
        let start = RunStart {
            request: RunRequest {
                id,
                params: params.unwrap_or_else(|| was.params.clone()),
                origin_id: Some(origin),
                traceparent: was.traceparent.as_deref().map(|given| link_after(self.id(), given)),
                idempotency_key: None,
                slot: None,
                start_at: None,
                ..was.clone()
            },
            queue: self.queue.clone(),
            priority: self.priority,
            after_run: None,
            tenant: self.tenant.clone(),
            limit_key: self.limit_key.clone(),
            debounce_key: None,
            attributes: self.attributes.clone(),
        };
        (start, repeats)
    }
}

/// As the run that it is copied to has it.
fn copied(step: &StepState) -> StepState {
    StepState {
        due_at: None,
        claim_token: 0,
        plan_cursor: None,
        ..step.clone()
    }
}

fn numbers(path: &str) -> Numbers {
    let parts = path.split('/').filter(|part| *part != "undo");
    let number = |part: &str| {
        let digits = part.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(part.len());
        part[..digits].parse().ok()
    };
    parts.map(number).collect()
}

/// Where the two part: at a number of a branch they stand beside each other, at an ordinal one is before the other. None:
/// places do not tell.
fn stands(place: &Numbers, root: &Numbers) -> Option<Stands> {
    let Some(at) = place.iter().zip(root).position(|(one, other)| one != other) else {
        return Some(Stands::Behind);
    };
    match (place[at], root[at]) {
        _ if at % 2 == 1 => Some(Stands::Beside),
        (Some(one), Some(other)) if one < other => Some(Stands::Before),
        (Some(_), _) => Some(Stands::Behind),
        (None, _) => None,
    }
}
