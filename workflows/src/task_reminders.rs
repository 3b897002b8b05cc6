//! Whoever has open tasks is reminded of them: a run for all, and a child of it for each user.

use chrono::NaiveDate;
use futures::FutureExt;
use lockgate::delivery::{Direct, EmailTriggerCommand};
use lockgate::workflow::{Context, Workflow};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

/// The workflow `task-reminders`: a child for each active user.
pub struct TaskReminders;

/// Its input.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReminderInput {
    /// How many users at most.
    pub users: i64,
    /// How many of them at once.
    pub at_once: usize,
}

impl Default for ReminderInput {
    fn default() -> Self {
        Self {
            users: 1_000,
            at_once: 1_000,
        }
    }
}

/// What it came to.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reminded {
    /// Users that were reminded.
    pub reminded: u64,
    /// Users without an open task.
    pub idle: u64,
    /// Users whose child failed or was cancelled.
    pub failed: u64,
}

impl Workflow for TaskReminders {
    const NAME: &'static str = "task-reminders";
    type Input = ReminderInput;
    type Output = Reminded;

    async fn run(&self, ctx: Context, input: ReminderInput) -> anyhow::Result<Reminded> {
        let most = input.users;
        let users: Vec<i64> = ctx
            .transaction("users", move |connection| active_users(connection, most).boxed())
            .await?;
        // A child that fails is counted: the others go on.
        let remind = |ctx: Context, user: i64| async move { Ok(ctx.run_child::<TaskReminder>(&user).await.ok()) };
        let told = ctx.join_all(users, input.at_once, remind).await?;
        let count = |wanted| told.iter().filter(|told| **told == wanted).count() as u64;
        Ok(Reminded {
            reminded: count(Some(true)),
            idle: count(Some(false)),
            failed: count(None),
        })
    }
}

/// The workflow `task-reminder`: one user, who gets an e-mail when there is something to be reminded of.
pub struct TaskReminder;

/// What a user is reminded of.
#[derive(Serialize, Deserialize, sqlx::FromRow)]
struct OpenTasks {
    email: String,
    name: String,
    locale: String,
    open: i64,
    since: NaiveDate,
}

impl Workflow for TaskReminder {
    const NAME: &'static str = "task-reminder";
    type Input = i64;
    type Output = bool;

    async fn run(&self, ctx: Context, user: i64) -> anyhow::Result<bool> {
        let open: Option<OpenTasks> = ctx
            .transaction("open tasks", move |connection| open_tasks(connection, user).boxed())
            .await?;
        let Some(open) = open else {
            return Ok(false);
        };
        let reminder = EmailTriggerCommand {
            recipient_email: open.email.into(),
            template_id: "open-tasks".into(),
            template_context: serde_json::json!({"name": open.name, "open": open.open, "since": open.since}),
            locale: open.locale.into(),
            correlation_id: ctx.run_id().to_string().into(),
            user_id: Some(user),
        };
        ctx.publish(Direct::new(reminder)).await?;
        Ok(true)
    }
}

async fn active_users(connection: &mut PgConnection, most: i64) -> anyhow::Result<Vec<i64>> {
    let users = sqlx::query_scalar(include_str!("../sql/users_to_remind.sql")).bind(most);
    Ok(users.fetch_all(connection).await?)
}

async fn open_tasks(connection: &mut PgConnection, user: i64) -> anyhow::Result<Option<OpenTasks>> {
    let open = sqlx::query_as(include_str!("../sql/open_tasks.sql")).bind(user);
    Ok(open.fetch_optional(connection).await?)
}
