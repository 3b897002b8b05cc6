//! `config show`.

use super::{Context, Exit, Outcome};

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Every key with its value and where it came from; secrets are hidden
    Show,
}

impl Command {
    pub(super) fn execute(self, context: &Context) -> Outcome {
        let values = context.loaded.values();
        context
            .output
            .list(&["key", "value", "origin", "about"], &values, |value| {
                vec![
                    value.key.clone(),
                    value.value.clone(),
                    value.origin.clone(),
                    value.about.clone(),
                ]
            })?;
        // Shown first, so that what does not hold can be looked up.
        context.config().validate()?;
        Ok(Exit::Ok)
    }
}
