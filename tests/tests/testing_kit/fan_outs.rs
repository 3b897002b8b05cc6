//! Fan-outs over made-up sources.

use std::collections::BTreeSet;

use async_trait::async_trait;
use lockgate::delivery::{Command, EmailTriggerCommand};
use lockgate::postgres::SqlSource;
use lockgate::testing::{TestEngine, every_crash};
use lockgate::workflow::{Context, FanOutSummary, IdPages, Resources, Source, Workflow};
use serde_json::Value;

#[derive(sqlx::FromRow)]
struct User {
    name: String,
}

/// Greets everybody.
struct Greetings;

impl Workflow for Greetings {
    const NAME: &'static str = "greetings";
    type Input = ();
    type Output = FanOutSummary;

    async fn run(&self, ctx: Context, (): ()) -> anyhow::Result<FanOutSummary> {
        let everybody = SqlSource::new("everybody", "select 1", "select 1");
        let sent = ctx.fan_out(everybody, |user: &User| greeting(user).map(Some)).await?;
        ctx.step("note", || async { anyhow::Ok(()) }).await?;
        Ok(sent)
    }
}

fn greeting(user: &User) -> anyhow::Result<Command> {
    EmailTriggerCommand {
        recipient_email: format!("{}@example.org", user.name).into(),
        template_id: "greeting".into(),
        template_context: serde_json::json!({}),
        locale: "en".into(),
        correlation_id: "greetings".into(),
        user_id: None,
    }
    .into_command()
}

fn with_users(engine: TestEngine) -> TestEngine {
    let user = |id: i64| {
        (id % 10 != 0).then(|| User {
            name: format!("user{id}"),
        })
    };
    engine
        .workflow(Greetings)
        .fan_out_source("everybody", 1..=50, user)
        .batch_size(8)
}

fn distinct(engine: &TestEngine) -> BTreeSet<String> {
    engine.messages().iter().map(|message| message.message_id()).collect()
}

#[tokio::test]
async fn messages_of_a_made_up_source_are_collected() {
    let engine = with_users(TestEngine::new());
    let sent = engine.start::<Greetings>(&()).await.result().await.unwrap();
    assert_eq!(
        (sent.items, sent.batches, sent.delivered, sent.vanished),
        (50, 7, 45, 5)
    );
    let messages = engine.messages();
    assert_eq!((messages.len(), distinct(&engine).len()), (45, 45));
    let first: Value = messages[0].json();
    assert_eq!(
        (messages[0].topic(), &first["templateId"]),
        ("email_commands", &Value::from("greeting"))
    );
}

/// Cannot be planned.
struct Unordered;

#[async_trait]
impl Source for Unordered {
    type Row = User;

    fn name(&self) -> &str {
        "unordered"
    }
    async fn ids(&self, _: &Resources, _: Option<i64>) -> anyhow::Result<Box<dyn IdPages>> {
        Ok(Box::new(Self))
    }
    async fn rows(&self, _: &Resources, _: &[i64]) -> anyhow::Result<Vec<(i64, User)>> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl IdPages for Unordered {
    async fn next(&mut self, _: usize) -> anyhow::Result<Vec<i64>> {
        Ok(vec![2, 1])
    }
}

/// Ten pages of three, however many are asked for, as of a statement that bounds what it reads before it filters.
struct Meagre(i64);

#[async_trait]
impl Source for Meagre {
    type Row = User;
    fn name(&self) -> &str {
        "meagre"
    }
    async fn ids(&self, _: &Resources, after: Option<i64>) -> anyhow::Result<Box<dyn IdPages>> {
        Ok(Box::new(Self(after.unwrap_or(0))))
    }
    async fn rows(&self, _: &Resources, ids: &[i64]) -> anyhow::Result<Vec<(i64, User)>> {
        let user = |id: &i64| {
            (
                *id,
                User {
                    name: format!("user{id}"),
                },
            )
        };
        Ok(ids.iter().map(user).collect())
    }
}

#[async_trait]
impl IdPages for Meagre {
    async fn next(&mut self, _: usize) -> anyhow::Result<Vec<i64>> {
        let page = (self.0 + 1..=self.0 + 3).filter(|id| *id <= 30).collect();
        self.0 += 3;
        Ok(page)
    }
}

struct MeagreGreetings;

impl Workflow for MeagreGreetings {
    const NAME: &'static str = "meagre-greetings";
    type Input = ();
    type Output = FanOutSummary;

    async fn run(&self, ctx: Context, (): ()) -> anyhow::Result<FanOutSummary> {
        let sent = ctx.fan_out(Meagre(0), |user: &User| greeting(user).map(Some)).await?;
        Ok(sent)
    }
}

#[tokio::test]
async fn a_short_page_of_ids_is_not_the_end_of_a_plan() {
    let engine = TestEngine::new().workflow(MeagreGreetings);
    let run = engine.start::<MeagreGreetings>(&()).await;
    let sent = run.result().await.unwrap();
    assert_eq!((sent.items, sent.delivered), (30, 30));
}

/// Does without its greetings when they cannot be sent.
struct Undaunted;

impl Workflow for Undaunted {
    const NAME: &'static str = "undaunted";
    type Input = ();
    type Output = ();

    async fn run(&self, ctx: Context, (): ()) -> anyhow::Result<()> {
        let sent = ctx.fan_out(Unordered, |user: &User| greeting(user).map(Some)).await;
        if sent.is_err() {
            ctx.step("shrug", || async { anyhow::Ok(()) }).await?;
        }
        Ok(())
    }
}

/// No record says so, and a replay may be able to.
#[tokio::test]
async fn a_run_whose_fan_out_cannot_be_planned_fails_whatever_its_code_makes_of_that() {
    let engine = TestEngine::new().workflow(Undaunted);
    let run = engine.start::<Undaunted>(&()).await;
    let why = "planning step 0:unordered: the source returned item 1 after item 2: ids must ascend and come once";
    run.assert_failed_with(why).await;
    run.assert_no_step("1:shrug");
}

#[tokio::test]
async fn a_fan_out_survives_a_crash_at_every_write_and_its_messages_keep_their_ids() {
    let crashed = every_crash(async |engine| {
        let engine = with_users(engine);
        let run = engine.start::<Greetings>(&()).await;
        let sent = run.result().await.unwrap();
        assert_eq!((sent.items, sent.delivered, sent.vanished), (50, 45, 5));
        assert_eq!(distinct(&engine).len(), 45);
        run.assert_step("1:note", &());
    })
    .await;
    assert!(crashed >= 20, "{crashed}");
}

#[tokio::test]
#[should_panic(
    expected = "this workflow uses an SqlSource: give the test a database with lockgate::testing::postgres(), or make up its rows with .fan_out_source"
)]
async fn a_source_without_a_database_fails_its_test() {
    let engine = TestEngine::new().workflow(Greetings);
    let _ = engine.start::<Greetings>(&()).await.result().await;
}

#[tokio::test]
#[should_panic(expected = "the rows of the fake source everybody are to be testing_kit::fan_outs::User")]
async fn rows_of_another_type_fail_the_test() {
    let engine = TestEngine::new()
        .workflow(Greetings)
        .fan_out_source("everybody", [1], |_| Some(7_u8));
    let _ = engine.start::<Greetings>(&()).await.result().await;
}
