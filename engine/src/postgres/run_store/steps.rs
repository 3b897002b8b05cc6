//! Recording steps.

use std::time::Duration;

use super::PostgresRunStore;
use crate::lifecycle::{FleetError, NewSignal, NewStep, News, RunId, Saved, Signalled};

fn later<T>() -> Result<T, FleetError> {
    Err(FleetError::Refused("not yet".to_owned()))
}

impl PostgresRunStore {
    pub(super) async fn save_step_rows(&self, _: &[NewStep]) -> Result<Vec<Saved>, FleetError> {
        later()
    }
    pub(super) async fn settle_step_row(&self, _: &NewStep) -> Result<Saved, FleetError> {
        later()
    }
    pub(super) async fn wake_rows(&self, _: &[RunId]) -> Result<u64, FleetError> {
        later()
    }
    pub(super) async fn signal_row(&self, _: &NewSignal) -> Result<Signalled, FleetError> {
        later()
    }
    pub(super) async fn read_news_of(&self, _: &[RunId]) -> Result<Vec<News>, FleetError> {
        later()
    }
    pub(super) async fn next_due_of(&self, _: &[String]) -> Result<Option<Duration>, FleetError> {
        later()
    }
}
