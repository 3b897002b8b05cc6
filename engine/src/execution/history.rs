//! What a run has recorded, as its code asks for it again: by place, so that other code than the one that ran shows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;

use crate::lifecycle::{Kind, StepState, StepStatus, WorkRun};
use crate::workflow::{Place, UNDO, is_undo, undo_path};

/// What the record says of a place that the code has come to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Asked {
    /// Nothing: it is come to for the first time.
    New,
    /// It waits, or is to be tried again.
    Open(StepState),
    /// It is over, well or not.
    Ended(StepState),
    /// Something else stands there; says what.
    Diverged(String),
}

/// What the record says of a select that the code has come to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Selected {
    /// No branch of it has won.
    Open,
    /// This one has.
    Won(usize, StepState),
    /// Something else stands there; says what.
    Diverged(String),
}

/// Which of several versions of a piece of code a run takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Version {
    /// This one, as recorded, or as the run was begun without any.
    Taken(u32),
    /// This one, to be recorded.
    New(u32),
    /// The recorded one is not among them; says so.
    Diverged(String),
}

/// The recorded steps of a run.
#[derive(Debug)]
pub(super) struct History {
    workflow: String,
    run: String,
    steps: HashMap<String, StepState>,
    /// What stands at each place of each branch; a `BTreeMap` tells whether something stands behind one.
    places: BTreeMap<(String, u32), String>,
    /// How many branches have something recorded, or stand before one that has, by the path of their place.
    branches: HashMap<String, usize>,
    asked: BTreeSet<String>,
    /// Where changes stand whose places the run was past before they were known.
    old: BTreeSet<String>,
}

/// Where the row of a change stands, whose place does not count.
pub(super) fn version_path(prefix: &str, change: &str) -> String {
    format!("{prefix}v:{change}")
}

impl History {
    pub(super) fn new(run: &WorkRun, steps: Vec<StepState>) -> Self {
        let mut branches: HashMap<String, usize> = HashMap::new();
        let mut places = BTreeMap::new();
        let paths = steps.iter().map(|step| step.path.as_str());
        for path in paths.filter(|path| !is_undo(path)) {
            for (place, number) in Place::above(path) {
                let above = place.to_string();
                let count = branches.entry(above.clone()).or_default();
                *count = number.saturating_add(1).max(*count);
                places.insert((place.prefix, place.ordinal), above);
            }
            if let Some(place) = Place::of_path(path) {
                places.insert((place.prefix, place.ordinal), path.to_owned());
            }
        }
        Self {
            workflow: run.workflow.clone(),
            run: run.id.to_string(),
            places,
            branches,
            steps: steps.into_iter().map(|step| (step.path.clone(), step)).collect(),
            asked: BTreeSet::new(),
            old: BTreeSet::new(),
        }
    }

    /// The code has come to a place.
    pub(super) fn ask(&mut self, place: &Place, kind: Kind) -> Asked {
        let Some(path) = self.places.get(&(place.prefix.clone(), place.ordinal)) else {
            return Asked::New;
        };
        let step = match self.steps.get(path) {
            Some(step) if step.kind == kind && *path == place.to_string() => step,
            _ => return Asked::Diverged(self.stands_there(place, kind.as_str(), path)),
        };
        self.asked.insert(path.clone());
        match step.status {
            StepStatus::Open => Asked::Open(step.clone()),
            StepStatus::Completed | StepStatus::Failed | StepStatus::Dropped => Asked::Ended(step.clone()),
        }
    }

    /// The code has come to a join; answers how many of its branches are recorded, or says what else stands there.
    pub(super) fn ask_join(&self, place: &Place) -> Result<usize, String> {
        let Some(path) = self.places.get(&(place.prefix.clone(), place.ordinal)) else {
            return Ok(0);
        };
        match *path != place.to_string() || self.steps.contains_key(path) {
            true => Err(self.stands_there(place, &place.name, path)),
            false => Ok(self.branches.get(path).copied().unwrap_or(0)),
        }
    }

    /// The code has come to a select of so many branches.
    pub(super) fn ask_select(&mut self, place: &Place, count: usize) -> Selected {
        let Some(path) = self.places.get(&(place.prefix.clone(), place.ordinal)) else {
            return Selected::Open;
        };
        let step = match self.steps.get(path) {
            None if *path == place.to_string() => return Selected::Open,
            Some(step) if *path == place.to_string() && step.kind == Kind::Select => step,
            _ => return Selected::Diverged(self.stands_there(place, Kind::Select.as_str(), path)),
        };
        self.asked.insert(path.clone());
        match winner(step) {
            Some(number) if number < count => Selected::Won(number, step.clone()),
            number => Selected::Diverged(self.differs(&format!(
                "at place {place} it now has {count} branches, and in run {} branch {} has won",
                self.run,
                number.map_or_else(|| "?".to_owned(), |number| number.to_string()),
            ))),
        }
    }

    /// The path lies in a branch of a select that another one has won.
    pub(super) fn is_lost(&self, path: &str) -> bool {
        Place::above(path).iter().any(|(place, number)| {
            let select = self.steps.get(&place.to_string());
            let select = select.filter(|step| step.kind == Kind::Select);
            select.is_some_and(|select| winner(select) != Some(*number))
        })
    }

    /// Steps that can be undone, that were begun, and that are not undone.
    pub(super) fn not_undone(&self) -> impl Iterator<Item = &StepState> {
        let undoable = self.steps.values().filter(|step| step.kind == Kind::Undoable);
        undoable.filter(|step| {
            let undo = self.steps.get(&undo_path(&step.path));
            undo.is_none_or(|undo| undo.status != StepStatus::Completed)
        })
    }

    /// A fan-out of it is not over, whether or not anything waits for it.
    pub(super) fn sends(&self) -> bool {
        let mut open = self.steps.values().filter(|step| step.status == StepStatus::Open);
        open.any(|step| step.kind == Kind::FanOut)
    }

    /// A signal was taken in a branch, when the run was read.
    pub(super) fn took_signals(&self, lost: &[String]) -> bool {
        let mut signals = self.steps.values().filter(|step| step.kind == Kind::Signal);
        signals.any(|step| step.result.is_some() && lost.iter().any(|prefix| step.path.starts_with(prefix)))
    }

    /// Something is recorded in the branch from this ordinal on.
    pub(super) fn goes_on(&self, prefix: &str, next: u32) -> bool {
        let from = (prefix.to_owned(), next);
        self.places.range(from..=(prefix.to_owned(), u32::MAX)).next().is_some()
    }

    fn stands_there(&self, place: &Place, kind: &str, path: &str) -> String {
        let name = name_of(path);
        let recorded = self.steps.get(path).map_or(name.as_str(), |step| step.kind.as_str());
        self.differs(&format!(
            "at place {}{} it now does \"{}\" ({kind}), run {} recorded \"{}\" ({recorded}) there",
            place.prefix, place.ordinal, place.name, self.run, name,
        ))
    }

    /// The code asks which version of a piece of it to take, before the place that is next in its branch.
    pub(super) fn version(&mut self, prefix: &str, next: u32, change: &str, range: &RangeInclusive<u32>) -> Version {
        let path = version_path(prefix, change);
        let (oldest, newest) = (*range.start(), *range.end());
        let Some(step) = self.steps.get(&path) else {
            // What stands behind was recorded by code that did not know the change; code that goes round and asks again at
            // the end of the record is in the same run.
            return if self.old.contains(&path) || self.goes_on(prefix, next) {
                self.old.insert(path);
                Version::Taken(oldest)
            } else {
                Version::New(newest)
            };
        };
        self.asked.insert(path);
        let recorded = step
            .result
            .as_deref()
            .and_then(|result| serde_json::from_slice(result).ok());
        match recorded {
            Some(version) if range.contains(&version) => Version::Taken(version),
            _ => Version::Diverged(self.differs(&format!(
                "run {} recorded version {} of change \"{change}\", it now knows {oldest} to {newest}",
                self.run,
                recorded.map_or_else(|| "?".to_owned(), |version| version.to_string()),
            ))),
        }
    }

    /// Nobody needs to have asked for it.
    fn is_excused(&self, path: &str, failed: bool) -> bool {
        is_undo(path) || (failed && path.contains('/')) || self.is_lost(path)
    }

    /// What the code, which has ended, never asked for. When it failed, other branches than the one that did may not have
    /// been run again.
    pub(super) fn never_asked(&self, failed: bool) -> Option<String> {
        let left = self.steps.values();
        let left = left.filter(|step| !self.asked.contains(&step.path) && !self.is_excused(&step.path, failed));
        let first = left.min_by(|one, other| one.path.cmp(&other.path))?;
        Some(self.differs(&format!(
            "it ended without \"{}\" ({}), which run {} recorded at {}",
            name_of(&first.path),
            first.kind.as_str(),
            self.run,
            first.path,
        )))
    }

    /// A step whose row somebody else has written meanwhile, such as a fan-out.
    pub(super) fn learn(&mut self, step: StepState) {
        if let Some(place) = Place::of_path(&step.path) {
            self.places.insert((place.prefix, place.ordinal), step.path.clone());
        }
        // Only what the code has come to is written while it runs.
        self.asked.insert(step.path.clone());
        self.steps.insert(step.path.clone(), step);
    }

    pub(super) fn step(&self, path: &str) -> Option<&StepState> {
        self.steps.get(path)
    }

    /// Why the run undoes what it did, and in which order, if it has begun to.
    pub(super) fn undo(&self) -> Option<&StepState> {
        self.steps.get(UNDO)
    }

    pub(super) fn workflow(&self) -> &str {
        &self.workflow
    }

    fn differs(&self, how: &str) -> String {
        format!(
            "the code of workflow {} differs from the one that ran: {how}; deploy the old code, or use ctx.version, then \
             resume",
            self.workflow
        )
    }
}

/// Which branch has won, as it is recorded.
fn winner(select: &StepState) -> Option<usize> {
    select
        .result
        .as_deref()
        .and_then(|result| serde_json::from_slice(result).ok())
}

fn name_of(path: &str) -> String {
    Place::of_path(path).map_or_else(|| path.to_owned(), |place| place.name)
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use uuid::Uuid;

    use super::*;

    fn step(path: &str, kind: Kind, status: StepStatus) -> StepState {
        StepState {
            path: path.to_owned(),
            kind,
            status,
            result: Some(b"1".to_vec()),
            started_at: Utc::now(),
            finished_at: None,
            due_at: None,
            attempts: 0,
            claim_token: 1,
            plan_cursor: None,
            planned: false,
        }
    }

    fn history(steps: Vec<StepState>) -> History {
        let run = WorkRun {
            id: Uuid::nil(),
            workflow: "billing".to_owned(),
            queue: "billing".to_owned(),
            params: Vec::new(),
            origin_id: Uuid::nil(),
            slot: None,
            created_at: Utc::now(),
            traceparent: None,
            started_at: None,
            claimed_at: Utc::now(),
            attempts: 0,
            code_version: 1,
            seed_id: None,
            repeated_at: None,
            parent_id: None,
            depth: 0,
            undoing: false,
            scheduled: false,
            wake_seq: 0,
            steps: Vec::new(),
            signals: Vec::new(),
            unread: false,
        };
        History::new(&run, steps)
    }

    fn place(ordinal: u32, name: &str) -> Place {
        Place {
            prefix: String::new(),
            ordinal,
            name: name.to_owned(),
        }
    }

    #[test]
    fn a_place_answers_what_was_recorded_there() {
        let charged = step("0:charge", Kind::Step, StepStatus::Completed);
        let waits = step("1:approval", Kind::Signal, StepStatus::Open);
        let mut history = history(vec![charged.clone(), waits.clone()]);
        assert_eq!(history.ask(&place(0, "charge"), Kind::Step), Asked::Ended(charged));
        assert_eq!(history.ask(&place(1, "approval"), Kind::Signal), Asked::Open(waits));
        assert_eq!(history.ask(&place(2, "mail"), Kind::Step), Asked::New);
        assert_eq!(history.never_asked(false), None);
    }

    #[test]
    fn another_name_or_kind_at_a_place_diverges() {
        let mut history = history(vec![step("0:charge", Kind::Step, StepStatus::Completed)]);
        let Asked::Diverged(text) = history.ask(&place(0, "refund"), Kind::Step) else {
            unreachable!("it diverged")
        };
        assert_eq!(
            text,
            "the code of workflow billing differs from the one that ran: at place 0 it now does \"refund\" (step), run \
             00000000-0000-0000-0000-000000000000 recorded \"charge\" (step) there; deploy the old code, or use \
             ctx.version, then resume"
        );
        assert!(matches!(
            history.ask(&place(0, "charge"), Kind::Sleep),
            Asked::Diverged(_)
        ));
    }

    #[test]
    fn branches_have_places_of_their_own() {
        let mut history = history(vec![step("2:join/1/0:charge", Kind::Step, StepStatus::Completed)]);
        assert_eq!(history.ask(&place(0, "refund"), Kind::Step), Asked::New);
        let branch = Place {
            prefix: "2:join/1/".to_owned(),
            ..place(0, "charge")
        };
        assert!(matches!(history.ask(&branch, Kind::Step), Asked::Ended(_)));
    }

    #[test]
    fn a_join_and_a_step_do_not_stand_for_each_other() {
        let mut joined = history(vec![step("2:join/1/0:charge", Kind::Step, StepStatus::Completed)]);
        assert_eq!(joined.ask_join(&place(2, "join")), Ok(2));
        assert_eq!(joined.ask_join(&place(3, "join")), Ok(0));
        let Asked::Diverged(text) = joined.ask(&place(2, "charge"), Kind::Step) else {
            unreachable!("it diverged")
        };
        assert!(text.contains("recorded \"join\" (join) there"), "{text}");
        let alone = history(vec![step("2:charge", Kind::Step, StepStatus::Completed)]);
        let text = alone.ask_join(&place(2, "join")).expect_err("a step stands there");
        assert!(text.contains("it now does \"join\" (join), run"), "{text}");
    }

    #[test]
    fn branches_are_counted_by_the_last_one_that_has_anything() {
        let history = history(vec![
            step("2:join/9/0:join/1/0:charge", Kind::Step, StepStatus::Completed),
            step("2:join/10/v:vat", Kind::Version, StepStatus::Completed),
            step("undo/2:join/11/0:charge", Kind::Step, StepStatus::Completed),
        ]);
        assert_eq!(history.ask_join(&place(2, "join")), Ok(11));
        let inner = Place {
            prefix: "2:join/9/".to_owned(),
            ..place(0, "join")
        };
        assert_eq!(history.ask_join(&inner), Ok(2));
    }

    #[test]
    fn code_that_ends_without_a_recorded_step_diverges() {
        let mut history = history(vec![
            step("0:charge", Kind::Step, StepStatus::Completed),
            step("1:mail", Kind::Step, StepStatus::Completed),
        ]);
        let _ = history.ask(&place(0, "charge"), Kind::Step);
        let text = history.never_asked(false).unwrap_or_default();
        assert!(text.contains("it ended without \"mail\" (step)"), "{text}");
    }

    #[test]
    fn a_run_that_passed_a_place_before_a_change_keeps_the_old_version() {
        let mut old = history(vec![step("0:charge", Kind::Step, StepStatus::Completed)]);
        assert_eq!(old.version("", 0, "vat", &(1..=3)), Version::Taken(1));
        assert_eq!(old.version("", 1, "other", &(1..=3)), Version::New(3));
    }

    /// Else it would be told another version in its next replay, which meets what is recorded here from its first round on.
    #[test]
    fn a_run_that_was_past_a_place_once_keeps_the_old_version_in_every_round() {
        let rounds =
            |count| (0..count).map(|round| step(&format!("{round}:charge"), Kind::Step, StepStatus::Completed));
        let mut old = history(rounds(2).collect());
        let asked = |history: &mut History, rounds: u32| -> Vec<Version> {
            let rounds = 0..rounds;
            rounds.map(|next| history.version("", next, "vat", &(1..=2))).collect()
        };
        assert_eq!(asked(&mut old, 4), vec![Version::Taken(1); 4]);
        assert_eq!(old.version("", 4, "other", &(1..=2)), Version::New(2));
        assert_eq!(
            old.version("4:join/0/", 0, "vat", &(1..=2)),
            Version::New(2),
            "a branch asks for itself"
        );
        // And what a replay finds then is no other thing.
        assert_eq!(asked(&mut history(rounds(4).collect()), 5), vec![Version::Taken(1); 5]);
    }

    #[test]
    fn a_recorded_version_counts_as_long_as_the_code_knows_it() {
        let mut recorded = step("v:vat", Kind::Version, StepStatus::Completed);
        recorded.result = Some(b"2".to_vec());
        let mut history = history(vec![recorded]);
        assert_eq!(history.version("", 0, "vat", &(1..=3)), Version::Taken(2));
        assert!(matches!(history.version("", 0, "vat", &(3..=4)), Version::Diverged(_)));
        assert_eq!(history.never_asked(false), None);
    }
}
