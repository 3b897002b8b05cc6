//! `replicas list`. The pattern of a small command: arguments, one read, one list.

use super::output::time;
use super::{Context, Exit, Outcome};
use crate::inspect::ReplicaSummary;

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Live replicas, what they do and how loaded they are
    List {
        /// Also those that stopped or are gone
        #[arg(long)]
        all: bool,
    },
}

impl Command {
    pub(super) async fn execute(self, context: &Context) -> Outcome {
        let Self::List { all } = self;
        let replicas = context.inspector().await?.list_replicas(all).await?;
        let columns = [
            "replica",
            "state",
            "leader",
            "roles",
            "workflows",
            "in_flight",
            "window",
            "breakers",
            "seen_at",
            "version",
            "host",
        ];
        context.output.list(&columns, &replicas, cells)?;
        Ok(Exit::Ok)
    }
}

fn cells(replica: &ReplicaSummary) -> Vec<String> {
    let breakers: Vec<String> = replica
        .breakers
        .iter()
        .map(|breaker| format!("{} {}", breaker.topic, breaker.state))
        .collect();
    vec![
        replica.replica_id.to_string(),
        replica.state.clone(),
        if replica.leader { "yes" } else { "-" }.to_owned(),
        replica.roles.join(","),
        replica.workflows.join(","),
        replica.in_flight.to_string(),
        format!("{}/{}", replica.window_used, replica.window_size),
        if breakers.is_empty() {
            "-".to_owned()
        } else {
            breakers.join(", ")
        },
        time(&replica.seen_at),
        replica.version.clone(),
        replica.host.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}
