//! Holding the lease: elect, renew in time or step down, resign.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::job::repeat;
use super::telling::Telling;
use super::{Job, LeaderStore, Reign};
use crate::telemetry::closed::{ElectionEnd, LeaseKind};
use crate::telemetry::meters;

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
    telling: Telling,
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
            telling: Telling::begin(),
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
                Ok(None) => {
                    unreachable = false;
                    self.telling.heard_of_leader();
                }
                Err(error) => {
                    self.telling.hears_of_none();
                    if !std::mem::replace(&mut unreachable, true) {
                        tracing::warn!(name: "leadership_unreachable", %error, "leadership cannot be asked for; it is tried again");
                    }
                }
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
        self.telling.leads(term);
        meters().election(ElectionEnd::Elected);
        tracing::info!(name: "leadership_won", term, "this replica leads");
        let end = self.hold(term, asked, stop).await;
        over.cancel();
        self.term.send_replace(None);
        self.telling.leads_no_more();
        // What a job has in flight is fenced by the term or safe anywhere; waiting only makes the end tidy.
        let _ = timeout(PATIENCE.min(self.renew), async {
            while running.join_next().await.is_some() {}
        })
        .await;
        match end {
            End::Lost(why) => {
                meters().election(ElectionEnd::Lost);
                meters().leases_lost(LeaseKind::Leader, 1);
                tracing::warn!(name: "leadership_lost", term, why, "this replica does not lead any more");
            }
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
                    meters().leases_renewed(LeaseKind::Leader, 1);
                    trusted_until = asked + self.trust();
                    next = asked + self.renew;
                }
                Ok(Ok(false)) => return End::Lost("the lease is over or somebody else's"),
                Ok(Err(error)) => {
                    tracing::debug!(%error, term, "a renewal failed; it is tried again");
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
            Ok(Ok(true)) => {
                meters().election(ElectionEnd::Resigned);
                tracing::info!(name: "leadership_resigned", term, "this replica has given leadership up");
            }
            Ok(Ok(false)) => {}
            Ok(Err(error)) => not_resigned(term, &error.to_string()),
            Err(_) => not_resigned(term, "no answer in time"),
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

fn not_resigned(term: i64, error: &str) {
    tracing::warn!(name: "resignation_failed", term, error, "leadership could not be given up: its lease ends by itself");
}
