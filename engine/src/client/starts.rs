//! Starts of runs without keys: what is started at the same time goes together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::execution::{Group, Together, Trouble};
use crate::lifecycle::{NewRun, RunId};
use crate::local::Local;
use crate::postgres::{Database, DatabaseError, Notifier};
use crate::telemetry::closed::GroupName;

/// Starts that wait to be written.
const ROOM: usize = 10_000;
/// How long a start is tried while the database cannot be asked.
const PATIENCE: Duration = Duration::from_secs(30);
/// Before a page is asked for again.
const PAUSE: Duration = Duration::from_millis(100);

/// The starts of a process.
pub(super) struct Starts(Group<Store>);

struct Store {
    database: Database,
    local: Arc<Local>,
    notifier: Notifier,
}

impl Starts {
    pub(super) fn new(database: Database, local: Arc<Local>) -> Self {
        let store = Store {
            notifier: Notifier::new(database.clone()),
            database,
            local,
        };
        Self(Group::new(store, ROOM))
    }

    /// Starts a run without a key. When this returns it is durable.
    pub(super) async fn start(&self, run: NewRun) -> Result<(), DatabaseError> {
        if let Some((replica, seat)) = self.0.together().local.admits(&run) {
            if replica.begin(run.clone(), seat).await {
                return Ok(());
            }
            // It may be there.
            return self.start_page(&[run], true).await;
        }
        self.0.write(Instant::now() + PATIENCE, run).await
    }

    /// Starts a page of runs without keys, whole or not at all; `again` when some of them may be there.
    pub(super) async fn start_page(&self, page: &[NewRun], mut again: bool) -> Result<(), DatabaseError> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.0.together().start(page, again).await {
                Err(error) if Store::trouble(&error) == Trouble::Again && !Store::is_lost(&until) => again = true,
                answer => return answer,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Tells the replicas of a run that was started under a key.
    pub(super) fn ring(&self, run: &NewRun) {
        self.0.together().ring(run);
    }
}

impl Store {
    async fn start(&self, page: &[NewRun], again: bool) -> Result<(), DatabaseError> {
        // Others are told when nobody here will take them: with the start itself, unless somebody was told just now.
        let others = !self.local.takes(page);
        let rings = others && self.notifier.lends();
        fail::fail_point!("start_runs.before_commit");
        self.database.start_runs(page, again, rings).await?;
        fail::fail_point!("start_runs.after_commit");
        self.local.ring();
        if others && !rings {
            self.notifier.ring();
        }
        Ok(())
    }

    /// Others are told when nobody here will take it.
    fn ring(&self, started: &NewRun) {
        let others = !self.local.takes(std::slice::from_ref(started));
        self.local.ring();
        if others {
            self.notifier.ring();
        }
    }
}

#[async_trait]
impl Together for Store {
    const NAME: GroupName = GroupName::Starts;

    type Write = NewRun;
    /// Until when it is tried.
    type Held = Instant;
    type Answer = ();
    type Error = DatabaseError;

    fn run(run: &NewRun) -> RunId {
        run.id
    }

    fn bytes(run: &NewRun) -> usize {
        run.params.len()
    }

    /// The ids were made by the callers, so that asking again starts none twice.
    fn trouble(error: &DatabaseError) -> Trouble {
        if error.may_pass() || error.is_there() {
            Trouble::Again
        } else {
            Trouble::Spoiled
        }
    }

    fn is_lost(until: &Instant) -> bool {
        Instant::now() >= *until
    }

    fn lost(why: &str) -> Result<(), DatabaseError> {
        Err(DatabaseError::Unanswered(why.to_owned()))
    }

    fn stopped() -> DatabaseError {
        DatabaseError::Unanswered("the runtime that asked has ended".to_owned())
    }

    async fn all(&self, runs: &[NewRun], again: bool) -> Result<Vec<()>, DatabaseError> {
        self.start(runs, again).await?;
        Ok(vec![(); runs.len()])
    }

    async fn one(&self, run: &NewRun) -> Result<(), DatabaseError> {
        self.start(std::slice::from_ref(run), true).await
    }
}
