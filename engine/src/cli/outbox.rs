//! `outbox list`.

use uuid::Uuid;

use super::output::{or_dash, time};
use super::{Context, Exit, Outcome};
use crate::inspect::LaneSummary;

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Lanes of the outbox with something in them or a holder, how much waits and since when
    List {
        /// Also those with neither
        #[arg(long)]
        all: bool,
    },
}

impl Command {
    pub(super) async fn execute(self, context: &Context) -> Outcome {
        let Self::List { all } = self;
        let mut lanes = context.inspector().await?.list_outbox().await?;
        lanes.retain(|lane| all || lane.waiting + lane.delayed > 0 || lane.holder.is_some());
        let columns = [
            "lane",
            "waiting",
            "delayed",
            "oldest",
            "holder",
            "lease_until",
            "last_error",
        ];
        context.output.list(&columns, &lanes, cells)?;
        Ok(Exit::Ok)
    }
}

fn cells(lane: &LaneSummary) -> Vec<String> {
    vec![
        lane.lane.to_string(),
        lane.waiting.to_string(),
        lane.delayed.to_string(),
        or_dash(lane.oldest.as_ref(), time),
        or_dash(lane.holder.as_ref(), Uuid::to_string),
        or_dash(lane.lease_until.as_ref(), time),
        or_dash(lane.last_error.as_ref(), String::clone),
    ]
}
