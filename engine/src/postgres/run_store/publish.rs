//! Commands that runs put into the outbox, in the statement that records it.

use futures::FutureExt;

use super::steps::written;
use super::{PostgresRunStore, Query};
use crate::lifecycle::{FleetError, NewPublication, Saved};

const PUBLISH_COMMANDS: &str = include_str!("../../../queries/publish_commands.sql");

impl PostgresRunStore {
    pub(super) async fn publish_rows(&self, group: &[NewPublication]) -> Result<Vec<Saved>, FleetError> {
        let query = self.publish_query(group);
        let rows = self
            .database
            .run(move |connection| query.fetch_all(connection).boxed())
            .await?;
        let written = written(&rows, group.len())?;
        let mut answers = Vec::with_capacity(group.len());
        for (NewPublication { step, .. }, written) in group.iter().zip(written) {
            answers.push(match written {
                Some(true) => Saved::Done,
                // The path has a row: of a request before this one, whose answer was lost, or of another holder.
                Some(false) => self.recorded(step).await?,
                None => Saved::Lost,
            });
        }
        Ok(answers)
    }

    fn publish_query(&self, group: &[NewPublication]) -> Query {
        let steps = || group.iter().map(|publication| &publication.step);
        let commands = || group.iter().map(|publication| &publication.command);
        self.database
            .statement(PUBLISH_COMMANDS)
            .bind(steps().map(|step| step.claim.run).collect::<Vec<_>>())
            .bind(steps().map(|step| step.claim.token).collect::<Vec<_>>())
            .bind(steps().map(|step| step.claim.claim_id).collect::<Vec<_>>())
            .bind(steps().map(|step| step.path.clone()).collect::<Vec<_>>())
            .bind(steps().map(|step| step.result.clone()).collect::<Vec<_>>())
            .bind(steps().map(|step| step.started_at).collect::<Vec<_>>())
            .bind(steps().map(|step| step.finished_at).collect::<Vec<_>>())
            .bind(
                commands()
                    .map(|command| command.command_type.clone())
                    .collect::<Vec<_>>(),
            )
            .bind(commands().map(|command| command.message_id).collect::<Vec<_>>())
            .bind(commands().map(|command| command.route.clone()).collect::<Vec<_>>())
            .bind(commands().map(|command| command.key.clone()).collect::<Vec<_>>())
            .bind(commands().map(|command| command.headers.clone()).collect::<Vec<_>>())
            .bind(commands().map(|command| command.payload.clone()).collect::<Vec<_>>())
            .bind(commands().map(|command| command.not_before).collect::<Vec<_>>())
    }
}
