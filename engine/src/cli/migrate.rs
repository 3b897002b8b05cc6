//! `migrate up|down|status|roles`.

use std::time::Duration;

use super::{Changed, Context, Exit, Failure, Outcome};
use crate::postgres::{DatabaseError, MigrationState, Migrator, roles_sql};

/// A migration may wait for another migrator and for locks.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Apply what is missing, oldest first
    Up {
        /// Only up to this version
        #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(i32).range(1..))]
        to: Option<i32>,
    },
    /// Revert the newest migrations; what they hold is lost
    Down {
        /// Keep this version and those before it; 0 reverts all
        #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(i32).range(0..))]
        to: i32,
        /// Do it; without it only says what would be reverted
        #[arg(long)]
        yes: bool,
    },
    /// Every migration of this binary, and whether it is applied
    Status {
        /// Exit with 6 when one is missing
        #[arg(long)]
        check: bool,
    },
    /// Make the cluster's roles, once per cluster; safe to run again
    Roles {
        /// Print the script instead of running it
        #[arg(long)]
        print: bool,
    },
}

impl Command {
    pub(super) async fn execute(self, context: &Context) -> Outcome {
        if let Self::Roles { print } = self {
            return roles(context, print).await;
        }
        let migrator = Migrator::new(context.direct_database(PATIENCE).await?);
        match self {
            Self::Up { to } => {
                let applied = migrator.up(to).await.map_err(half_done)?;
                eprintln!("{} migrations applied, the schema is up to date", applied.len());
                show(context, &applied)?;
                Ok(Exit::Ok)
            }
            Self::Down { to, yes } => down(context, &migrator, to, yes).await,
            Self::Status { check } => {
                let states = migrator.status().await?;
                show(context, &states)?;
                let missing = states.iter().any(|state| !state.applied);
                Ok(if check && missing { Exit::Problems } else { Exit::Ok })
            }
            Self::Roles { .. } => Ok(Exit::Ok),
        }
    }
}

async fn down(context: &Context, migrator: &Migrator, to: i32, yes: bool) -> Outcome {
    let states = migrator.status().await?;
    let doomed: Vec<MigrationState> = states
        .into_iter()
        .rev()
        .filter(|state| state.applied && state.version > to)
        .collect();
    if !yes && !doomed.is_empty() {
        show(context, &doomed)?;
        let what = format!(
            "{} migrations would be reverted and what they hold would be lost",
            doomed.len()
        );
        return Err(Failure::new(Exit::Usage, what).hint("add --yes to do it"));
    }
    let reverted = migrator.down(to).await.map_err(half_done)?;
    eprintln!("{} migrations reverted", reverted.len());
    show(context, &reverted)?;
    Ok(Exit::Ok)
}

async fn roles(context: &Context, print: bool) -> Outcome {
    if print {
        return context
            .output
            .done(&serde_json::json!({ "sql": roles_sql() }), || roles_sql().to_owned());
    }
    context
        .direct_database(PATIENCE)
        .await?
        .make_roles()
        .await
        .map_err(Failure::of_write)?;
    context.output.done(&serde_json::json!({ "roles": "made" }), || {
        "roles are made\n".to_owned()
    })
}

fn show(context: &Context, states: &[MigrationState]) -> Result<(), Failure> {
    context.output.list(&["version", "title", "applied"], states, |state| {
        vec![
            state.version.to_string(),
            state.title.clone(),
            if state.applied { "yes" } else { "no" }.to_owned(),
        ]
    })
}

/// Each migration is a transaction of its own: those before the failed one stay.
fn half_done(error: DatabaseError) -> Failure {
    let of_the_last = match error.is_unanswered() {
        true => "whether the last migration was applied is not known, those before it stay (`migrate status`)",
        false => "the migration that failed was rolled back, those before it stay (`migrate status`)",
    };
    let mut failure = Failure::from(error).changed(Changed::Said);
    failure.what = format!("{}; {of_the_last}", failure.what);
    failure
}
