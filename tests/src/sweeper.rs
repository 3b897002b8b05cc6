//! Sweeps from the test's own process, for tests whose replicas do not.

use std::time::Duration;

use lockgate::lifecycle::Fleet;
use lockgate::postgres::{Database, FleetSettings, PostgresFleet};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Sweeps as long as this value lives.
pub struct Sweeper(JoinHandle<()>);

impl Sweeper {
    /// Sweeps a database once a second; failures are tried again, as a leader would.
    #[must_use]
    pub fn start(database: Database) -> Self {
        let settings = FleetSettings {
            replica: Uuid::new_v4(),
            lease: Duration::from_secs(3),
            max_deaths: 3,
            stale_after: Duration::from_secs(3),
            first_redelivery: Duration::from_secs(1),
        };
        let fleet = PostgresFleet::new(database, settings);
        Self(tokio::spawn(async move {
            loop {
                if let Err(error) = fleet.sweep().await {
                    eprintln!("sweep: {error}");
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }))
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}
