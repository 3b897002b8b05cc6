//! What is told of a pool of connections.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::connections::Connections;
use crate::telemetry::catalogue::{DB_CONNECTIONS, DB_CONNECTIONS_MAX, DB_WAIT_TIME};
use crate::telemetry::closed::{Closed, ConnectionState, Pool};
use crate::telemetry::{Timing, Watching, meters};

/// Told from the pool's first use on: a process that makes a pool before it says where it tells things is told of too.
pub(super) struct PoolMeter {
    whose: Pool,
    used: OnceLock<(Timing, [Watching; 3])>,
}

impl PoolMeter {
    pub(super) fn new(whose: Pool) -> Self {
        Self {
            whose,
            used: OnceLock::new(),
        }
    }

    /// A connection was had after so long, or was not.
    pub(super) fn waited(&self, connections: &Arc<Connections>, time: Duration, answer: Result<(), &sqlx::Error>) {
        let (timing, _) = self.used.get_or_init(|| self.watch(connections));
        timing.took(time);
        if matches!(answer, Err(sqlx::Error::PoolTimedOut)) {
            meters().connection_timed_out(self.whose);
        }
    }

    fn watch(&self, connections: &Arc<Connections>) -> (Timing, [Watching; 3]) {
        let whose = self.whose.text();
        let (idle, used) = (connections.clone(), connections.clone());
        let most = connections.most();
        let watching = [
            meters().watch(&DB_CONNECTIONS, &[whose, ConnectionState::Idle.text()], move || {
                Some(idle.counts().1 as f64)
            }),
            meters().watch(&DB_CONNECTIONS, &[whose, ConnectionState::Used.text()], move || {
                let (all, idle) = used.counts();
                Some((all - idle) as f64)
            }),
            meters().watch(&DB_CONNECTIONS_MAX, &[whose], move || Some(f64::from(most))),
        ];
        (meters().timing(&DB_WAIT_TIME, &[whose]), watching)
    }
}

impl std::fmt::Debug for PoolMeter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.whose.text())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::telemetry::catalogue::DB_TIMEOUTS;

    #[tokio::test]
    async fn a_wait_for_a_connection_that_is_given_up_is_counted() {
        let pool = sqlx::PgPool::connect_lazy("postgres://nobody@localhost/nothing").unwrap();
        let pool = Arc::new(Connections::of(pool, Arc::default()));
        let meter = PoolMeter::new(Pool::Client);
        let given_up = || meters().total(&DB_TIMEOUTS, Some(Pool::Client.text()));
        let before = given_up();
        meter.waited(&pool, Duration::from_millis(3), Ok(()));
        meter.waited(&pool, Duration::from_millis(3), Err(&sqlx::Error::PoolClosed));
        assert_eq!(given_up(), before);
        meter.waited(&pool, Duration::from_secs(3), Err(&sqlx::Error::PoolTimedOut));
        assert_eq!(given_up(), before + 1);
    }
}
