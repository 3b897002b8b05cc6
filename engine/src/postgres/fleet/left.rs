//! What a sweep asks first, so that a fleet at rest is asked one question instead of ten.

use futures::FutureExt;
use sqlx::{Row, postgres::PgRow};

use super::PostgresFleet;
use super::sweep::Failures;
use crate::lifecycle::FleetError;
use crate::postgres::database::DatabaseError;

const WHAT_IS_LEFT: &str = include_str!("../../../queries/what_is_left.sql");

/// Which parts of a sweep may have anything to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    pub(super) batches: bool,
    pub(super) runs: bool,
    pub(super) undelivered: bool,
    pub(super) overdue: bool,
    pub(super) stopping: bool,
    pub(super) fan_outs: bool,
    pub(super) children: bool,
    pub(super) followers: bool,
    pub(super) places: bool,
}

impl Left {
    /// Nobody knows, so each part looks by itself.
    const UNKNOWN: Self = Self {
        batches: true,
        runs: true,
        undelivered: true,
        overdue: true,
        stopping: true,
        fan_outs: true,
        children: true,
        followers: true,
        places: true,
    };

    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            batches: row.try_get("batches")?,
            runs: row.try_get("runs")?,
            undelivered: row.try_get("undelivered")?,
            overdue: row.try_get("overdue")?,
            stopping: row.try_get("stopping")?,
            fan_outs: row.try_get("fan_outs")?,
            children: row.try_get("children")?,
            followers: row.try_get("followers")?,
            places: row.try_get("places")?,
        })
    }
}

impl PostgresFleet {
    pub(super) async fn what_is_left(&self) -> Result<Left, FleetError> {
        let query = self.database.statement(WHAT_IS_LEFT);
        let row = self
            .database
            .run(move |connection| query.fetch_one(connection).boxed())
            .await?;
        Ok(Left::read(&row).map_err(DatabaseError::from)?)
    }
}

/// A sweep under way.
pub(super) struct Sweep {
    failed: Failures,
    /// A part did something since it was asked what is left, or failed half way: that may be work for those behind it.
    moved: bool,
}

impl Sweep {
    /// A question that failed keeps no part from its turn.
    pub(super) fn begin(asked: Result<Left, FleetError>) -> (Left, Self) {
        let mut sweep = Self {
            failed: Failures::default(),
            moved: false,
        };
        let left = asked.unwrap_or_else(|error| {
            sweep.failed.count(Err(error));
            Left::UNKNOWN
        });
        (left, sweep)
    }

    /// Does a part that may have anything to do; answers how much it did.
    pub(super) async fn part(&mut self, is_left: bool, part: impl Future<Output = Result<u64, FleetError>>) -> u64 {
        if !is_left && !self.moved {
            return 0;
        }
        let done = part.await;
        self.moved |= !matches!(done, Ok(0));
        self.failed.count(done)
    }

    /// What was done, if nothing failed.
    pub(super) fn end<T>(self, done: T) -> Result<T, FleetError> {
        self.failed.end(done)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    const NOTHING: Left = Left {
        batches: false,
        runs: false,
        undelivered: false,
        overdue: false,
        stopping: false,
        fan_outs: false,
        children: false,
        followers: false,
        places: false,
    };

    fn refused() -> FleetError {
        FleetError::Refused("on purpose".to_owned())
    }

    async fn in_vain() -> Result<u64, FleetError> {
        panic!("there is nothing to do")
    }

    #[tokio::test]
    async fn a_part_is_tried_when_something_is_left_for_it_or_a_part_before_it_did_or_failed() {
        let (left, mut sweep) = Sweep::begin(Ok(NOTHING));
        assert_eq!(sweep.part(left.runs, in_vain()).await, 0);
        assert_eq!(sweep.part(true, async { Ok(0) }).await, 0);
        assert_eq!(sweep.part(left.runs, in_vain()).await, 0);
        assert_eq!(sweep.part(true, async { Ok(2) }).await, 2);
        assert_eq!(sweep.part(left.stopping, async { Ok(3) }).await, 3);
        assert!(sweep.end(()).is_ok());

        let (left, mut sweep) = Sweep::begin(Ok(NOTHING));
        assert_eq!(sweep.part(true, async { Err(refused()) }).await, 0);
        assert_eq!(sweep.part(left.stopping, async { Ok(3) }).await, 3);
        assert!(sweep.end(()).is_err());
    }

    #[tokio::test]
    async fn a_question_that_failed_keeps_no_part_from_its_turn_and_is_told() {
        let (left, mut sweep) = Sweep::begin(Err(refused()));
        assert_eq!(sweep.part(left.places, async { Ok(1) }).await, 1);
        assert!(sweep.end(()).is_err());
    }
}
