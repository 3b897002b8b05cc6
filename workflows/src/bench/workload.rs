//! What is sent: a workflow as a user would write one, and the same rows and bytes for the loop it is compared with.

use lockgate::delivery::{Command, EmailTriggerCommand};
use lockgate::postgres::SqlSource;
use lockgate::workflow::{Context, FanOutSummary, Workflow};
use serde::{Deserialize, Serialize};

/// Which items there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Density {
    /// Every id.
    Dense,
    /// A scattered 30 in 100.
    Sparse,
}

impl Density {
    /// The ids of a page.
    pub(super) fn ids(self) -> &'static str {
        match self {
            Self::Dense => include_str!("../../sql/bench/dense_ids.sql"),
            Self::Sparse => include_str!("../../sql/bench/sparse_ids.sql"),
        }
    }

    /// The rows of given ids.
    pub(super) fn rows(self) -> &'static str {
        match self {
            Self::Dense => include_str!("../../sql/bench/dense_rows.sql"),
            Self::Sparse => include_str!("../../sql/bench/sparse_rows.sql"),
        }
    }

    /// The rows of a range of ids; what the hand-written loop reads.
    pub(super) fn rows_between(self) -> &'static str {
        match self {
            Self::Dense => include_str!("../../sql/bench/dense_rows_between.sql"),
            Self::Sparse => include_str!("../../sql/bench/sparse_rows_between.sql"),
        }
    }

    /// How many ids lie in a stretch that holds about a thousand items.
    pub(super) fn stretch(self) -> i64 {
        match self {
            Self::Dense => 1000,
            Self::Sparse => 3333,
        }
    }
}

/// The workflow `bench-fan-out`.
pub(super) struct BenchFanOut;

/// Its input.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FanOutInput {
    pub(super) density: Density,
    pub(super) last_id: i64,
}

/// A row as it is read.
#[derive(sqlx::FromRow)]
pub(super) struct User {
    pub(super) id: i64,
    email: String,
    name: String,
    locale: String,
    title: String,
}

#[derive(Serialize)]
struct Summary<'a> {
    name: &'a str,
    title: &'a str,
}

impl Workflow for BenchFanOut {
    const NAME: &'static str = "bench-fan-out";
    type Input = FanOutInput;
    type Output = FanOutSummary;

    async fn run(&self, ctx: Context, input: FanOutInput) -> anyhow::Result<FanOutSummary> {
        let density = input.density;
        let mut users = SqlSource::new("users", density.ids(), density.rows()).bind(input.last_id);
        if density == Density::Dense {
            users = users.rows_between(density.rows_between());
        }
        let run = ctx.run_id().to_string();
        ctx.fan_out(users, move |user| command(user, &run).map(Some)).await
    }
}

/// The command of a user: about 280 bytes of JSON.
pub(super) fn command(user: &User, run: &str) -> anyhow::Result<Command> {
    EmailTriggerCommand {
        recipient_email: (&user.email).into(),
        template_id: "daily-task-report".into(),
        template_context: Summary {
            name: &user.name,
            title: &user.title,
        },
        locale: (&user.locale).into(),
        correlation_id: run.into(),
        user_id: Some(user.id),
    }
    .into_command()
}
