//! Records steps.

use std::sync::Arc;

use crate::lifecycle::{FleetError, NewStep, RunStore, Saved};

pub(crate) struct Checkpoints {
    pub(crate) store: Arc<dyn RunStore>,
}

impl Checkpoints {
    pub(crate) async fn submit(&self, step: NewStep, open: bool) -> Result<Saved, FleetError> {
        if open {
            return self.store.settle_step(&step).await;
        }
        let saved = self.store.save_steps(std::slice::from_ref(&step)).await?;
        Ok(saved.into_iter().next().unwrap_or(Saved::Lost))
    }
}
