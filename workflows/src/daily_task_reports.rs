//! Every active user gets yesterday's summary of tasks, in their language.

use chrono::{Days, NaiveDate};
use lockgate::delivery::{Command, EmailTriggerCommand};
use lockgate::postgres::SqlSource;
use lockgate::workflow::{Context, FanOutSummary, Workflow};
use serde::{Deserialize, Serialize};

/// The workflow `daily-task-reports`.
pub struct DailyTaskReports;

/// Its input.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportInput {
    /// The day to report on; the day before the run's slot or start when not given.
    #[serde(default)]
    pub day: Option<NaiveDate>,
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
    type Input = ReportInput;
    type Output = FanOutSummary;

    async fn run(&self, ctx: Context, input: ReportInput) -> anyhow::Result<FanOutSummary> {
        let day = input
            .day
            .unwrap_or_else(|| ctx.nominal_time().date_naive() - Days::new(1));
        let users = SqlSource::new(
            "reports",
            include_str!("../sql/active_user_ids.sql"),
            include_str!("../sql/report_rows.sql"),
        )
        .rows_between(include_str!("../sql/report_rows_between.sql"))
        .bind(day);
        let run = ctx.run_id().to_string();
        ctx.fan_out(users, move |user| report(user, day, &run).map(Some)).await
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
