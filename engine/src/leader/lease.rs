//! Holding the lease: elect, renew in time or step down, resign.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::job::repeat;
use super::{Job, LeaderStore, Reign};

/// How long a stopping leader waits for a request in flight; the lease then ends by itself.
const PATIENCE: Duration = Duration::from_secs(2);

/// Leads whenever nobody else does.
pub struct LeaderLoop {
    lease: Duration,
    renew: Duration,
    store: Arc<dyn LeaderStore>,
    jobs: Vec<Arc<dyn Job>>,
    hint: Arc<Notify>,
    term: watch::Sender<Option<i64>>,
}

/// How a term ended.
enum End {
    Stopped,
    Lost(&'static str),
}

impl LeaderLoop {
    /// A loop that does these jobs while it leads and shows its term in `term`.
    #[must_use]
    pub fn new(
        lease: Duration,
        renew: Duration,
        store: Arc<dyn LeaderStore>,
        jobs: Vec<Arc<dyn Job>>,
        hint: Arc<Notify>,
        term: watch::Sender<Option<i64>>,
    ) -> Self {
        Self {
            lease,
            renew,
            store,
            jobs,
            hint,
            term,
        }
    }

    /// Leads again and again until told to stop; then resigns.
    pub async fn run(self, stop: CancellationToken) {
        let mut unreachable = false;
        while !stop.is_cancelled() {
            // The clock starts before the request: the store's lease begins later, so it ends later.
            let asked = Instant::now();
            let mut election = self.store.elect_leader(self.lease);
            let answer = tokio::select! {
                answer = &mut election => answer,
                () = stop.cancelled() => {
                    // It may succeed all the same, and nobody would know of the term.
                    if let Ok(Ok(Some(term))) = timeout(PATIENCE, election).await {
                        self.resign(term).await;
                    }
                    return;
                }
            };
            match answer {
                Ok(Some(term)) => {
                    unreachable = false;
                    self.reign(term, asked, &stop).await;
                    continue;
                }
                Ok(None) => unreachable = false,
                Err(error) if !unreachable => {
                    unreachable = true;
                    tracing::warn!(%error, "leadership cannot be asked for; it is tried again");
                }
                Err(error) => tracing::debug!(%error, "leadership cannot be asked for"),
            }
            self.wait(&stop).await;
        }
    }

    async fn reign(&self, term: i64, asked: Instant, stop: &CancellationToken) {
        let over = CancellationToken::new();
        // If this future itself is dropped, nothing of the term may go on.
        let _guard = over.clone().drop_guard();
        let mut running = JoinSet::new();
        let reign = Reign {
            term,
            over: over.clone(),
        };
        for job in &self.jobs {
            running.spawn(repeat(Arc::clone(job), reign.clone()));
        }
        self.term.send_replace(Some(term));
        tracing::info!(term, "leads term {term}");
        let end = self.hold(term, asked, stop).await;
        over.cancel();
        self.term.send_replace(None);
        // What a job has in flight is fenced by the term or safe anywhere; waiting only makes the end tidy.
        let _ = timeout(PATIENCE.min(self.renew), async {
            while running.join_next().await.is_some() {}
        })
        .await;
        match end {
            End::Lost(why) => tracing::warn!(term, why, "leads term {term} no longer: {why}"),
            End::Stopped => self.resign(term).await,
        }
    }

    /// Renews until it is too late or told to stop. Runs apart from the jobs.
    async fn hold(&self, term: i64, asked: Instant, stop: &CancellationToken) -> End {
        let mut trusted_until = asked + self.trust();
        let mut next = asked + self.renew;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return End::Stopped,
                () = sleep_until(next.min(trusted_until)) => {}
            }
            let asked = Instant::now();
            if asked >= trusted_until {
                return End::Lost("no renewal was answered in time");
            }
            let answer = tokio::select! {
                biased;
                () = stop.cancelled() => return End::Stopped,
                answer = timeout_at(trusted_until, self.store.renew_leader(term, self.lease)) => answer,
            };
            match answer {
                Ok(Ok(true)) => {
                    trusted_until = asked + self.trust();
                    next = asked + self.renew;
                }
                Ok(Ok(false)) => return End::Lost("the lease is over or somebody else's"),
                Ok(Err(error)) => {
                    tracing::debug!(%error, term, "renewal of term {term} failed; it is tried again");
                    next = Instant::now() + self.renew / 5;
                }
                Err(_) => return End::Lost("no renewal was answered in time"),
            }
        }
    }

    /// How long after asking the lease is believed in. The rest is for clocks that run at different speeds and for
    /// the jobs to stop.
    fn trust(&self) -> Duration {
        self.lease.mul_f64(0.8)
    }

    async fn resign(&self, term: i64) {
        match timeout(PATIENCE, self.store.resign_leader(term)).await {
            Ok(Ok(true)) => tracing::info!(term, "resigned from term {term}"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, term, "could not resign from term {term}; its lease ends by itself")
            }
            Err(_) => tracing::warn!(
                term,
                "could not resign from term {term} in time; its lease ends by itself"
            ),
        }
    }

    /// Waits for a hint, or about as long as between renewals; with jitter, so that replicas do not ask in step.
    async fn wait(&self, stop: &CancellationToken) {
        let pause = self.renew.mul_f64(rand::random_range(0.8..1.2));
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.hint.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}
