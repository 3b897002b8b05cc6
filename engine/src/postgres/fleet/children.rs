//! Parents that whoever ended a child of theirs, or themselves, did not look after.

use futures::FutureExt;
use sqlx::Row;
use uuid::Uuid;

use super::PostgresFleet;
use super::sweep::Failures;
use crate::lifecycle::FleetError;
use crate::postgres::database::DatabaseError;
use crate::postgres::run_store::{WAKE_RUNS, stop_children_of, stop_lost_children_of};

const CHILDREN_TO_LOOK_AFTER: &str = include_str!("../../../queries/children_to_look_after.sql");

/// Steps that wait for children that one sweep looks at; the next goes on behind them.
const PAGE: i64 = 10_000;
/// Children of what was just stopped are stopped in the same sweep, so deep.
const ROUNDS: u32 = 64;

/// A run whose steps wait for children, as one look found it.
struct Parent {
    run: Uuid,
    last_path: String,
    steps: i64,
    stops: bool,
    sleeps: bool,
    /// Branches of it in which steps wait though another one won.
    lost: Vec<String>,
}

impl PostgresFleet {
    /// Wakes parents that sleep though a child of theirs is over, and stops the children of those that are over, and of branches
    /// that lost.
    pub(super) async fn look_after_children(&self) -> Result<u64, FleetError> {
        let (mut changed, mut failed) = (0, Failures::default());
        for _ in 0..ROUNDS {
            let parents = self.parents_page().await?;
            let asleep: Vec<Uuid> = parents
                .iter()
                .filter(|parent| parent.sleeps)
                .map(|parent| parent.run)
                .collect();
            if !asleep.is_empty() {
                changed += self.affected(self.database.statement(WAKE_RUNS).bind(asleep)).await?;
            }
            let mut stopped = 0;
            for parent in parents.iter().filter(|parent| parent.stops) {
                let done = stop_children_of(&self.database, parent.run).await;
                stopped += failed.count(done.map(|children| u64::from(children > 0)).map_err(FleetError::from));
                if failed.are_many() {
                    break;
                }
            }
            for parent in parents.iter().filter(|parent| !parent.lost.is_empty()) {
                let done = stop_lost_children_of(&self.database, parent.run, &parent.lost).await;
                stopped += failed.count(done.map(|children| u64::from(children > 0)).map_err(FleetError::from));
                if failed.are_many() {
                    break;
                }
            }
            changed += stopped;
            if stopped == 0 || failed.are_many() {
                break;
            }
            // What was stopped may have children in turn, wherever they are in the order.
            *self.lock_looked_at() = None;
        }
        failed.end(changed)
    }

    /// The parents of the next page of waiting steps; the one after that begins behind it, or at the start.
    async fn parents_page(&self) -> Result<Vec<Parent>, FleetError> {
        let (run, path) = self.lock_looked_at().clone().unwrap_or_default();
        let query = self
            .database
            .statement(CHILDREN_TO_LOOK_AFTER)
            .bind(run)
            .bind(path)
            .bind(PAGE);
        let rows = self
            .database
            .run(move |connection| query.fetch_all(connection).boxed())
            .await?;
        let mut parents = Vec::with_capacity(rows.len());
        for row in &rows {
            let read = || -> Result<Parent, sqlx::Error> {
                Ok(Parent {
                    run: row.try_get("run_id")?,
                    last_path: row.try_get("path")?,
                    steps: row.try_get("steps")?,
                    stops: row.try_get("stops")?,
                    sleeps: row.try_get("sleeps")?,
                    lost: row.try_get("lost")?,
                })
            };
            parents.push(read().map_err(DatabaseError::from)?);
        }
        let is_full = parents.iter().map(|parent| parent.steps).sum::<i64>() >= PAGE;
        let last = parents.last().filter(|_| is_full);
        *self.lock_looked_at() = last.map(|last| (last.run, last.last_path.clone()));
        Ok(parents)
    }
}
