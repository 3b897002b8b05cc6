//! Every active user gets yesterday's summary of tasks, in their language; the team hears how it went.

use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, Utc};
use futures::FutureExt;
use lockgate::delivery::{Command, EmailTriggerCommand};
use lockgate::lifecycle::RunId;
use lockgate::postgres::SqlSource;
use lockgate::workflow::{Context, FanOutSummary, Workflow};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;

/// How long undelivered reports are waited for before the team hears that some are left.
const DRAIN_WITHIN: Duration = Duration::from_secs(3_600);
/// Between two looks at them; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The workflow `daily-task-reports`: whoever is a user when it begins gets a report; when somebody is to be told, it
/// waits until what could not be delivered is, and sends a summary.
pub struct DailyTaskReports;

/// Its input.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportInput {
    /// The day to report on; the day before the run's slot or start when not given.
    #[serde(default)]
    pub day: Option<NaiveDate>,
    /// The team's e-mail address; nobody is told, and nothing waited for, when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary_to: Option<String>,
}

/// What it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportSummary {
    /// First outcomes of the reports.
    #[serde(flatten)]
    pub sent: FanOutSummary,
    /// Reports that were still to be delivered when the team was told; none: nobody was to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undelivered: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct User {
    id: i64,
    email: String,
    name: String,
    locale: String,
    done: i64,
    open: i64,
}

#[derive(Serialize)]
struct Report<'a> {
    name: &'a str,
    day: NaiveDate,
    done: i64,
    open: i64,
}

impl Workflow for DailyTaskReports {
    const NAME: &'static str = "daily-task-reports";
    /// Version 1 had neither the snapshot nor the summary.
    const VERSION: u32 = 2;
    type Input = ReportInput;
    type Output = ReportSummary;

    async fn run(&self, ctx: Context, input: ReportInput) -> anyhow::Result<ReportSummary> {
        let day = input
            .day
            .unwrap_or_else(|| ctx.nominal_time().date_naive() - Days::new(1));
        let last_user: i64 = ctx
            .transaction("snapshot", |connection| last_user(connection).boxed())
            .await?;
        let users = SqlSource::new(
            "reports",
            include_str!("../sql/active_user_ids.sql"),
            include_str!("../sql/report_rows.sql"),
        )
        .rows_between(include_str!("../sql/report_rows_between.sql"))
        .bind(day)
        .bind(last_user);
        let run = ctx.run_id().to_string();
        let sent = ctx
            .fan_out(users, move |user| report(user, day, &run).map(Some))
            .await?;
        let undelivered = match input.summary_to {
            None => None,
            Some(team) => {
                let left = drained(&ctx).await?;
                tell(&ctx, team, day, sent, left).await?;
                Some(left)
            }
        };
        Ok(ReportSummary { sent, undelivered })
    }
}

fn report(user: &User, day: NaiveDate, run: &str) -> anyhow::Result<Command> {
    EmailTriggerCommand {
        recipient_email: (&user.email).into(),
        template_id: "daily-task-report".into(),
        template_context: Report {
            name: &user.name,
            day,
            done: user.done,
            open: user.open,
        },
        locale: (&user.locale).into(),
        correlation_id: run.into(),
        user_id: Some(user.id),
    }
    .into_command()
}

async fn last_user(connection: &mut PgConnection) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar(include_str!("../sql/last_user.sql"))
        .fetch_one(connection)
        .await?)
}

/// Waits until no report is still to be delivered, or for so long; answers how many are left.
async fn drained(ctx: &Context) -> anyhow::Result<i64> {
    let (run, until): (RunId, DateTime<Utc>) = (ctx.run_id(), ctx.now() + DRAIN_WITHIN);
    let mut pause = FIRST_PAUSE;
    loop {
        let left: i64 = ctx
            .transaction("undelivered", move |connection| undelivered(connection, run).boxed())
            .await?;
        if left == 0 || ctx.now() >= until {
            return Ok(left);
        }
        ctx.sleep(pause).await?;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn undelivered(connection: &mut PgConnection, run: RunId) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar(include_str!("../sql/undelivered_of_run.sql"))
        .bind(run)
        .fetch_one(connection)
        .await?)
}

/// Commits the team's e-mail with its step: it is sent once, whoever dies.
async fn tell(ctx: &Context, team: String, day: NaiveDate, sent: FanOutSummary, left: i64) -> anyhow::Result<()> {
    let run = ctx.run_id();
    let context = json!({
        "day": day, "users": sent.items, "delivered": sent.delivered, "refused": sent.refused, "undelivered": left,
    });
    ctx.transaction("summary", move |connection| {
        let (team, context) = (team.clone(), context.clone());
        async move {
            sqlx::query(include_str!("../sql/enqueue_summary.sql"))
                .bind(team)
                .bind(context)
                .bind(run.to_string())
                .execute(connection)
                .await?;
            Ok(())
        }
        .boxed()
    })
    .await
}
