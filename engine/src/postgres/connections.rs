//! Connections that are kept between calls.
//!
//! The driver's pool asks the server after each use whether the connection still works, which wakes it and us as much as a
//! small statement does, and lends the one that was used longest ago. Here the one that was used last is lent first, whose
//! server process is warm, and nobody asks while all is well.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::doubt::Doubt;

/// After so long a connection goes back to the pool, which looks at its age; whoever has it next asks whether it works, in two
/// statements.
const KEPT: Duration = Duration::from_secs(150);
/// After so long without use it goes back, too.
const RESTED: Duration = Duration::from_secs(30);
/// One that nobody used for so long may be cut off on its way, and whoever asks it waits in vain: as old as the pool has it.
const UNUSED: Duration = Duration::from_secs(600);

/// The connections of one pool.
pub(super) struct Connections {
    pool: PgPool,
    doubt: Arc<Doubt>,
    /// A place for each: what is kept is never more than the pool may have.
    places: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The one that was used last stands last.
    kept: Vec<Kept>,
    is_closed: bool,
}

struct Kept {
    connection: PoolConnection<Postgres>,
    /// When the pool gave it.
    since: Instant,
    used: Instant,
}

impl Connections {
    /// Those of a pool that looks at what it lends as we do, with this doubt.
    pub(super) fn of(pool: PgPool, doubt: Arc<Doubt>) -> Self {
        Self {
            doubt,
            places: Arc::new(Semaphore::new(pool.options().get_max_connections() as usize)),
            pool,
            state: Mutex::default(),
        }
    }

    /// How many there may be.
    pub(super) fn most(&self) -> u32 {
        self.pool.options().get_max_connections()
    }

    /// How many are there, and how many of them nobody uses.
    pub(super) fn counts(&self) -> (usize, usize) {
        let kept = self.lock().kept.len();
        let all = self.pool.size() as usize;
        (all, (self.pool.num_idle() + kept).min(all))
    }

    /// Lends one, within the time that the pool gives for it: first for a place, then for a connection that works. Whoever is in
    /// `haste` waits only so long, and gets one that is kept unasked if it is not known to be as dead as another.
    pub(super) async fn lend(&self, haste: Option<Duration>) -> Result<Lent<'_>, sqlx::Error> {
        let patience = haste.unwrap_or(self.pool.options().get_acquire_timeout());
        let sure = haste.is_none();
        let begun = Instant::now();
        let place = tokio::time::timeout(patience, self.places.clone().acquire_owned()).await;
        let place = place.map_err(|_| sqlx::Error::PoolTimedOut)?;
        let place = place.map_err(|_| sqlx::Error::PoolClosed)?;
        let left = patience.saturating_sub(begun.elapsed());
        match tokio::time::timeout(left, self.lend_to(Arc::new(place), sure)).await {
            // There was room for it, so it is not that others have them all.
            Err(_) | Ok(Err(sqlx::Error::PoolTimedOut)) => {
                let why = format!(
                    "no connection could be made in {}",
                    humantime::format_duration(patience)
                );
                Err(std::io::Error::new(std::io::ErrorKind::TimedOut, why).into())
            }
            Ok(lent) => lent,
        }
    }

    async fn lend_to(&self, place: Arc<OwnedSemaphorePermit>, sure: bool) -> Result<Lent<'_>, sqlx::Error> {
        while let Some(kept) = self.take_last() {
            if kept.used.elapsed() >= UNUSED {
                drop(kept.connection.detach());
                continue;
            }
            let mut lent = Lent {
                connections: self,
                connection: Some(kept.connection),
                since: kept.since,
                _place: place.clone(),
            };
            let works = match sure {
                true => self.doubt.works(&mut lent, kept.used).await.unwrap_or(false),
                false => !self.doubt.is_about(kept.used),
            };
            // One that does not work is closed here.
            if works {
                return Ok(lent);
            }
        }
        Ok(Lent {
            connections: self,
            connection: Some(self.pool.acquire().await?),
            since: Instant::now(),
            _place: place,
        })
    }

    /// One that was asked at this time did not answer: those that nobody has used since are closed unasked.
    pub(super) fn doubt(&self, asked: Instant) {
        self.doubt.cast(asked);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_last(&self) -> Option<Kept> {
        self.lock().kept.pop()
    }

    /// Keeps it, and gives back one that was kept for too long. In the runtime, where the pool takes it back.
    fn keep(&self, connection: PoolConnection<Postgres>, since: Instant) {
        let used = Instant::now();
        let mut state = self.lock();
        if state.is_closed || used - since >= KEPT {
            return;
        }
        state.kept.push(Kept {
            connection,
            since,
            used,
        });
        let is_old = state.kept.first().is_some_and(|kept| used - kept.used >= RESTED);
        let old = is_old.then(|| state.kept.remove(0));
        drop(state);
        match old {
            // The pool would ask it, for as long as that takes.
            Some(old) if self.doubt.is_about(old.used) => drop(old.connection.detach()),
            old => drop(old),
        }
    }

    /// Closes all of them, once they are back.
    pub(super) async fn close(&self) {
        let kept = {
            let mut state = self.lock();
            state.is_closed = true;
            std::mem::take(&mut state.kept)
        };
        drop(kept);
        self.pool.close().await;
    }
}

impl Drop for Connections {
    /// There may be no runtime any more in which the pool would take them back.
    fn drop(&mut self) {
        for kept in self.lock().kept.drain(..) {
            drop(kept.connection.detach());
        }
    }
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.pool.fmt(f)
    }
}

/// A connection that is lent. Dropped otherwise than by a verb it is closed: what it is in the midst of nobody knows.
pub(super) struct Lent<'a> {
    connections: &'a Connections,
    /// Until it is dropped.
    connection: Option<PoolConnection<Postgres>>,
    since: Instant,
    /// Of which there are as many as the pool may have connections.
    _place: Arc<OwnedSemaphorePermit>,
}

const LENT: &str = "a connection is there until it is dropped";

impl Lent<'_> {
    fn take(&mut self) -> PoolConnection<Postgres> {
        self.connection.take().expect(LENT)
    }

    /// All went well: the next one to ask gets it.
    pub(super) fn keep(mut self) {
        let (connection, since) = (self.take(), self.since);
        self.connections.keep(connection, since);
    }

    /// The server refused something: the pool takes it back, and sees to what is left of a transaction.
    pub(super) fn give_back(mut self) {
        drop(self.take());
    }

    /// It is the caller's from now on, and another may take its place.
    pub(super) fn detach(mut self) -> PgConnection {
        self.take().detach()
    }
}

impl std::ops::Deref for Lent<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect(LENT)
    }
}

impl std::ops::DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect(LENT)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            drop(connection.detach());
        }
    }
}
