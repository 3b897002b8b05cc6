//! Kills and freezes replicas at random moments of a seed, and counts what came of it.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use uuid::Uuid;

use crate::cluster::{Cluster, RECOVERY};
use crate::invariants::Comparison;
use crate::replica::Replica;

/// What came of all faults and runs of a test.
#[derive(Debug, Default)]
pub struct Figures {
    /// Replicas ended by SIGKILL.
    pub kills: usize,
    /// Replicas frozen beyond their lease.
    pub freezes: usize,
    /// Runs that were brought to their end.
    pub runs: usize,
    /// Items of those runs.
    pub items: usize,
    /// Records beyond the first of a message.
    pub duplicates: usize,
    /// How many of them are explained.
    pub bound: usize,
    /// Claims taken from the dead and the frozen.
    pub recovered: i64,
    /// From a kill to the last of its claims being taken over, the worst.
    pub recovery: Duration,
}

impl Figures {
    /// Adds a run that has been held to everything.
    pub fn add(&mut self, found: &Comparison) {
        self.runs += 1;
        self.items += found.planned;
        self.duplicates += found.duplicates;
        self.bound += found.bound;
        self.recovered += found.recovered;
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "kills {}, freezes {}, runs {}, items {}, lost 0, invented 0, duplicates {} (bound {}, {:.1} a fault), \
             recovered claims {}, worst recovery {:.1} s",
            self.kills,
            self.freezes,
            self.runs,
            self.items,
            self.duplicates,
            self.bound,
            self.duplicates as f64 / (self.kills + self.freezes).max(1) as f64,
            self.recovered,
            self.recovery.as_secs_f64(),
        )
    }
}

/// Two replicas under attack, with always a run to work on.
pub struct Nemesis<'a> {
    cluster: &'a Cluster,
    random: StdRng,
    replicas: Vec<Replica>,
    runs: Vec<Uuid>,
    items: i64,
    killed_at: HashMap<Uuid, DateTime<Utc>>,
    /// What came of it so far.
    pub figures: Figures,
}

impl<'a> Nemesis<'a> {
    /// Two replicas and a first run of so many items; its seed is [`seed`](crate::seed())'s.
    pub async fn new(cluster: &'a Cluster, items: i64) -> Self {
        let mut nemesis = Self {
            cluster,
            random: StdRng::seed_from_u64(crate::seed()),
            replicas: vec![cluster.replica(), cluster.replica()],
            runs: Vec::new(),
            items,
            killed_at: HashMap::new(),
            figures: Figures::default(),
        };
        for replica in &mut nemesis.replicas {
            replica.runs().await;
        }
        nemesis.keep_busy().await;
        nemesis
    }

    /// Starts another run when the last one is over: a kill of an idle replica says nothing.
    async fn keep_busy(&mut self) {
        if let Some(last) = self.runs.last()
            && self.cluster.status(*last).await != "completed"
        {
            return;
        }
        let params = json!({"items": self.items, "unserialisable": [7], "skipped": [8]});
        self.runs.push(self.cluster.start("chaos-items", params).await);
    }

    /// Kills one replica after another at random moments; each is replaced a moment later.
    pub async fn kill(&mut self, kills: usize) {
        for _ in 0..kills {
            self.let_work().await;
            let victim = self.random.random_range(0..self.replicas.len());
            let id = self.replicas[victim].id().unwrap();
            self.replicas[victim].kill();
            self.figures.kills += 1;
            self.killed_at.insert(id, self.database_time().await);
            let pause = self.random.random_range(0..500);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let mut replacement = self.cluster.replica();
            replacement.runs().await;
            self.replicas[victim] = replacement;
        }
    }

    /// Freezes the leader or the other for longer than any lease, then lets it go on.
    pub async fn freeze(&mut self, the_leader: bool) {
        self.let_work().await;
        let victim = self
            .leader()
            .await
            .map_or(0, |leader| if the_leader { leader } else { 1 - leader });
        self.replicas[victim].freeze();
        self.figures.freezes += 1;
        let time = self.random.random_range(7_500..10_000);
        let thawed = Instant::now() + Duration::from_millis(time);
        while Instant::now() < thawed {
            self.keep_busy().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.replicas[victim].thaw();
    }

    /// A random time with a batch in flight at its end.
    async fn let_work(&mut self) {
        let pause = self.random.random_range(300..1_500);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        self.keep_busy().await;
        let run = *self.runs.last().unwrap();
        let claimed = "select count(*) from lockgate.run_batches where run_id = $1 and status = 'claimed'";
        let patience = Instant::now() + RECOVERY;
        while self.cluster.count(claimed, run).await == 0 && Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn leader(&self) -> Option<usize> {
        let query = sqlx::query_scalar("select holder from lockgate.leader_lease");
        let holder: Uuid = query.fetch_optional(&self.cluster.pool).await.unwrap()?;
        self.replicas.iter().position(|replica| replica.id() == Some(holder))
    }

    async fn database_time(&self) -> DateTime<Utc> {
        sqlx::query_scalar("select clock_timestamp()")
            .fetch_one(&self.cluster.pool)
            .await
            .unwrap()
    }

    /// The faults are over: every run comes to its end within the deadline and holds.
    ///
    /// # Panics
    /// One does not, or the faults bit nothing.
    pub async fn ends(mut self, deadline: Duration) -> Figures {
        for run in std::mem::take(&mut self.runs) {
            let found = self.cluster.completes_within(run, deadline).await;
            println!("{found}");
            self.figures.add(&found);
            self.time_recovery(run).await;
        }
        println!("{}", self.figures);
        assert!(
            self.figures.recovered >= 1,
            "vacuous: no claim was ever recovered: {}",
            self.figures
        );
        self.figures
    }

    async fn time_recovery(&mut self, run: Uuid) {
        let sql = "select replica, max(at) from lockgate.transitions
                    where run_id = $1 and reason in ('lease ended', 'kills its workers') group by replica";
        let last: Vec<(Uuid, DateTime<Utc>)> = sqlx::query_as(sql)
            .bind(run)
            .fetch_all(&self.cluster.pool)
            .await
            .unwrap();
        for (replica, at) in last {
            if let Some(killed_at) = self.killed_at.get(&replica) {
                self.figures.recovery = self.figures.recovery.max((at - killed_at).to_std().unwrap_or_default());
            }
        }
    }
}
