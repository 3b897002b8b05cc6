//! Lets go of runs.

use std::sync::Arc;

use crate::lifecycle::{Ending, FleetError, LetGo, RunStore};

pub(crate) struct Endings {
    pub(crate) store: Arc<dyn RunStore>,
}

impl Endings {
    pub(crate) async fn submit(&self, ending: Ending) -> Result<LetGo, FleetError> {
        let gone = self.store.let_go_runs(std::slice::from_ref(&ending)).await?;
        Ok(gone.into_iter().next().unwrap_or(LetGo::Lost))
    }
}
