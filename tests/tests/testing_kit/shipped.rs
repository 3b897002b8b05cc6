//! The workflows that ship, with a crash before and after each thing that they durably write.

use std::collections::BTreeSet;
use std::time::Duration;

use lockgate::testing::{TestEngine, TestHandle, TestPostgres, every_crash, postgres};
use lockgate_workflows::{
    DailyTaskReports, Reminded, ReminderInput, ReportInput, ReportSummary, TaskReminder, TaskReminders, tracker,
};
use sqlx::PgPool;
use uuid::Uuid;

/// One in ten of them is inactive.
const USERS: i64 = 40;
const REPORTS: usize = 36;

async fn tracker() -> (TestPostgres, PgPool) {
    let database = postgres().await;
    let pool = PgPool::connect(database.url()).await.unwrap();
    tracker::create(&pool).await.unwrap();
    tracker::seed(&pool, USERS, |_| {}).await.unwrap();
    (database, pool)
}

fn input(team: Option<&str>) -> ReportInput {
    ReportInput {
        day: None,
        summary_to: team.map(str::to_owned),
    }
}

/// Starts a run a second later, so that the test can do something to the tables before.
async fn start(engine: &TestEngine, team: Option<&str>) -> TestHandle<ReportSummary> {
    let second = Duration::from_secs(1);
    let start = engine.start::<DailyTaskReports>(&input(team));
    start.at(engine.now() + second).await
}

async fn summaries(database: &TestPostgres) -> i64 {
    let summaries = "select count(*) from lockgate.outbox where convert_from(payload, 'UTF8')::json ->> 'templateId' = 'daily-report-summary'";
    database.count(summaries).await
}

fn reports(engine: &TestEngine) -> BTreeSet<String> {
    engine.messages().iter().map(|message| message.message_id()).collect()
}

/// A report of the run is on its way to be redelivered.
async fn owe(pool: &PgPool, run: Uuid) {
    sqlx::query(
        "insert into lockgate.undelivered_messages (command_type, id, message_id, run_id, step, batch_seq, item_id, status,
             reason_code, reason, topic, headers, next_attempt_at)
         values ('email', gen_random_uuid(), gen_random_uuid(), $1, '1:reports', 1, 1, 'due', 'timeout', 'by a test',
             'email_commands', '[]', clock_timestamp())",
    )
    .bind(run)
    .execute(pool)
    .await
    .unwrap();
}

async fn pay(pool: &PgPool) {
    sqlx::query("truncate lockgate.undelivered_messages")
        .execute(pool)
        .await
        .unwrap();
}

#[tokio::test]
async fn daily_task_reports_survives_every_crash_and_tells_the_team_once() {
    let (database, pool) = tracker().await;
    let crashed = every_crash(async |engine| {
        database
            .execute("truncate lockgate.outbox; truncate lockgate.undelivered_messages")
            .await;
        let engine = engine.workflow(DailyTaskReports).database(&database).batch_size(10);
        let run = start(&engine, Some("team@example.org")).await;
        owe(&pool, run.id()).await;
        engine.advance(Duration::from_secs(26)).await;
        run.assert_waits_at("5:sleep");
        assert_eq!((reports(&engine).len(), summaries(&database).await), (REPORTS, 0));
        pay(&pool).await;
        let summary = run.result().await.unwrap();
        assert_eq!((summary.sent.delivered, summary.undelivered), (REPORTS as u64, Some(0)));
        assert_eq!((reports(&engine).len(), summaries(&database).await), (REPORTS, 1));
    })
    .await;
    assert!(crashed >= 40, "{crashed}");
}

#[tokio::test]
async fn the_team_hears_after_an_hour_of_what_is_still_to_be_delivered() {
    let (database, pool) = tracker().await;
    let engine = TestEngine::new().workflow(DailyTaskReports).database(&database);
    let begun = engine.now();
    let run = start(&engine, Some("team@example.org")).await;
    owe(&pool, run.id()).await;
    assert_eq!(run.result().await.unwrap().undelivered, Some(1));
    let waited = (engine.now() - begun).num_minutes();
    assert!((60..66).contains(&waited), "{waited} minutes");
    assert_eq!(summaries(&database).await, 1);
}

#[tokio::test]
async fn without_a_team_nobody_is_told_and_nothing_waited_for_and_who_came_later_gets_no_report() {
    let (database, pool) = tracker().await;
    let engine = TestEngine::new()
        .workflow(DailyTaskReports)
        .database(&database)
        .crash_after("0:snapshot");
    let run = start(&engine, None).await;
    owe(&pool, run.id()).await;
    engine.advance(Duration::from_secs(1)).await;
    tracker::seed(&pool, USERS * 2, |_| {}).await.unwrap();
    let summary = run.result().await.unwrap();
    assert_eq!((summary.sent.items, summary.undelivered), (REPORTS as u64, None));
    run.assert_step("0:snapshot", &USERS);
    assert_eq!(summaries(&database).await, 0);
}

async fn reminders(engine: TestEngine, database: &TestPostgres, users: i64) -> (TestEngine, TestHandle<Reminded>) {
    let engine = engine.workflow(TaskReminders).workflow(TaskReminder).database(database);
    let input = ReminderInput { users, at_once: 1_000 };
    let run = engine.start::<TaskReminders>(&input).await;
    (engine, run)
}

fn mails(engine: &TestEngine) -> (usize, usize) {
    let published = engine.published();
    let ids: BTreeSet<_> = published.iter().map(|command| command.message_id).collect();
    (published.len(), ids.len())
}

#[tokio::test]
async fn each_user_is_reminded_once_wherever_it_crashes() {
    let (database, _pool) = tracker().await;
    let crashed = every_crash(async |engine| {
        let (engine, run) = reminders(engine, &database, 3).await;
        let told = run.result().await.unwrap();
        assert_eq!((told.failed, told.reminded + told.idle), (0, 3));
        let sent = told.reminded as usize;
        assert_eq!(mails(&engine), (sent, sent));
    })
    .await;
    assert!(crashed >= 20, "{crashed}");
}

#[tokio::test]
async fn a_thousand_children_are_waited_for_though_replicas_die() {
    let (database, pool) = tracker().await;
    tracker::seed(&pool, 1_200, |_| {}).await.unwrap();
    // The children are all under way when these come.
    let engine = TestEngine::new()
        .crash_before("0:open tasks")
        .crash_after("0:open tasks")
        .crash_before("0:open tasks")
        .crash_after("0:open tasks");
    let (engine, run) = reminders(engine, &database, 1_000).await;
    let told = run.result().await.unwrap();
    assert_eq!((told.failed, told.reminded + told.idle), (0, 1_000));
    assert_eq!((engine.crashes(), engine.runs_of("task-reminder").len()), (4, 1_000));
    let sent = told.reminded as usize;
    assert_eq!(mails(&engine), (sent, sent));
}
