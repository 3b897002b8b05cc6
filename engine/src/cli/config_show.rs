//! `config`.

use super::{Context, Exit, Outcome};
use crate::config::{ShownValue, reference, sample};

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Every key with its value; secrets are hidden
    Show {
        /// With where each value came from: default, file, variable or flag
        #[arg(long)]
        origin: bool,
    },
    /// A commented configuration file with every key and its default
    Sample,
    /// Every key as a table in Markdown
    Reference,
}

impl Command {
    /// Those that look at no configuration, so that a broken one is no hindrance.
    pub(super) fn prints(&self) -> Option<String> {
        match self {
            Self::Show { .. } => None,
            Self::Sample => Some(sample()),
            Self::Reference => Some(reference()),
        }
    }

    pub(super) fn execute(self, context: &Context) -> Outcome {
        let Self::Show { origin } = self else {
            return Ok(Exit::Ok);
        };
        let mut headers = vec!["key", "value", "origin", "about"];
        if !origin {
            headers.remove(2);
        }
        context
            .output
            .list(&headers, &context.loaded.values(), |value| row(value, origin))?;
        // Shown first, so that what does not hold can be looked up.
        context.config().validate()?;
        Ok(Exit::Ok)
    }
}

fn row(value: &ShownValue, origin: bool) -> Vec<String> {
    let mut row = vec![value.key.clone(), value.value.clone()];
    if origin {
        row.push(value.origin.clone());
    }
    row.push(value.about.clone());
    row
}
