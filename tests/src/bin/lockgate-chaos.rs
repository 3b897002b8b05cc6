//! The ready-made engine with the shipped workflow and two that tests can break: `chaos-items`, whose items are made
//! up and of which any can be bad, and `chaos-rows`, whose items are rows that tests take away.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::ensure;
use async_trait::async_trait;
use lockgate::Engine;
use lockgate::cli::{Execute, Exit, Failure, Outcome, extra};
use lockgate::delivery::{Command, Direct, DirectStats, EmailTriggerCommand, Handover};
use lockgate::postgres::SqlSource;
use lockgate::workflow::{Context, FanOutSummary, IdPages, Resources, Source, Workflow};
use lockgate_tests::beside::StartBeside;
use lockgate_tests::chaos_family::ChaosFamily;
use lockgate_tests::chaos_pair::ChaosPair;
use lockgate_tests::chaos_secrets::ChaosSecrets;
use lockgate_tests::chaos_steps::ChaosSteps;
use lockgate_tests::chaos_versions;
use lockgate_tests::place_order::PlaceOrder;
use lockgate_tests::running_total::RunningTotal;
use lockgate_workflows::shop::Payments;
use lockgate_workflows::{ApproveExpense, DailyTaskReports, ProcessOrder, TaskReminder, TaskReminders};
use serde::{Deserialize, Serialize};

fn main() -> ExitCode {
    let engine = Engine::builder()
        .workflow(DailyTaskReports)
        .workflow(ChaosItems)
        .workflow(ChaosRows)
        .workflow(ChaosSteps)
        .workflow(PlaceOrder)
        .workflow(ProcessOrder)
        .workflow(ApproveExpense)
        .workflow(RunningTotal)
        .workflow(TaskReminders)
        .workflow(TaskReminder)
        .workflow(ChaosFamily)
        .workflow(ChaosPair)
        .workflow(ChaosSecrets)
        .resource(Payments::from_env())
        .command(extra::<SubmitDirect>)
        .command(extra::<StartBeside>);
    // Which deployment this replica is of.
    lockgate::cli::main(match std::env::var("LOCKGATE_CHAOS_VERSION").as_deref() {
        Ok("2") => engine.workflow(chaos_versions::Second),
        _ => engine.workflow(chaos_versions::First),
    })
}

/// Submits direct commands, says the id of each that was accepted, and waits until all of them are somewhere
#[derive(clap::Args)]
struct SubmitDirect {
    /// How many
    count: usize,
    /// Not to be sent before so many seconds have passed, so that they go to the table
    #[arg(long)]
    in_seconds: Option<i64>,
}

impl Execute for SubmitDirect {
    const NAME: &'static str = "submit-direct";

    async fn execute(self, context: &lockgate::cli::Context) -> Outcome {
        let failed = |error: anyhow::Error| Failure::new(Exit::Failed, error.to_string());
        let orchestrator = lockgate::orchestrator(context.config(), None).map_err(failed)?;
        for number in 0..self.count {
            let mut command = Direct::new(email(number));
            if let Some(seconds) = self.in_seconds {
                command = command.not_before(chrono::Utc::now() + chrono::Duration::seconds(seconds));
            }
            let id = command.message_id;
            if let Handover::Accepted = orchestrator.submit(command) {
                eprintln!("accepted {id}");
            }
        }
        let placed = |stats: &DirectStats| stats.delivered + stats.stored.values().sum::<u64>();
        let late = |stats: &DirectStats| stats.in_flight > 0;
        while {
            let stats = orchestrator.stats();
            placed(&stats) < stats.accepted || late(&stats)
        } {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        eprintln!("all are placed");
        Ok(Exit::Ok)
    }
}

fn email(number: usize) -> EmailTriggerCommand<'static> {
    EmailTriggerCommand {
        recipient_email: format!("user-{number}@example.org").into(),
        template_id: "welcome".into(),
        template_context: serde_json::json!({}),
        locale: "de".into(),
        correlation_id: "direct".into(),
        user_id: None,
    }
}

/// Items 1 to `items`, some of them bad.
struct ChaosItems;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Items {
    items: i64,
    payload_bytes: usize,
    oversize: Vec<i64>,
    oversize_bytes: usize,
    unserialisable: Vec<i64>,
    panics: Vec<i64>,
    skipped: Vec<i64>,
    /// Have a correlation id that no text of Postgres can keep.
    unfit: Vec<i64>,
    /// So many reads of rows panic, and so many fail, before the first one works.
    rows_panic: u32,
    rows_fail: u32,
    /// Ends the process, where the variable `LOCKGATE_CHAOS_KILLS` is set.
    kills: Vec<i64>,
    /// Comes twice from the source.
    repeats: Option<i64>,
    /// Comes before its predecessor.
    descends: Option<i64>,
    /// How long the source takes for a page of ids.
    page_delay_ms: u64,
}

impl Workflow for ChaosItems {
    const NAME: &'static str = "chaos-items";
    type Input = Items;
    type Output = FanOutSummary;

    async fn run(&self, ctx: Context, input: Items) -> anyhow::Result<FanOutSummary> {
        let kills = std::env::var_os("LOCKGATE_CHAOS_KILLS").is_some();
        let source = MadeUp(input.clone());
        ctx.fan_out(source, move |item| message(&input, *item, kills)).await
    }
}

#[allow(clippy::panic)]
fn message(input: &Items, item: i64, kills: bool) -> anyhow::Result<Option<Command>> {
    if kills && input.kills.contains(&item) {
        eprintln!("item {item} kills its worker");
        std::process::abort();
    }
    if input.panics.contains(&item) {
        panic!("item {item} panics");
    }
    ensure!(!input.unserialisable.contains(&item), "item {item} has no form in JSON");
    if input.skipped.contains(&item) {
        return Ok(None);
    }
    let size = if input.oversize.contains(&item) {
        input.oversize_bytes
    } else {
        input.payload_bytes
    };
    let mut command = command(item, size);
    if input.unfit.contains(&item) {
        command.correlation_id = Some("zero\0".to_owned());
    }
    Ok(Some(command))
}

fn command(item: i64, size: usize) -> Command {
    let mut payload = format!("{{\"item\":{item},\"filling\":\"").into_bytes();
    payload.resize(payload.len() + size, b'x');
    payload.extend_from_slice(b"\"}");
    Command {
        command_type: "email".into(),
        topic: None,
        key: Some(item.to_string().into_bytes()),
        payload,
        correlation_id: None,
    }
}

struct MadeUp(Items);

/// Reads of rows so far, of all runs.
static READS: AtomicU32 = AtomicU32::new(0);

#[async_trait]
impl Source for MadeUp {
    type Row = i64;

    fn name(&self) -> &str {
        "items"
    }

    async fn ids(&self, _resources: &Resources, after: Option<i64>) -> anyhow::Result<Box<dyn IdPages>> {
        Ok(Box::new(Pages {
            input: self.0.clone(),
            after: after.unwrap_or(0),
        }))
    }

    #[allow(clippy::panic)]
    async fn rows(&self, _resources: &Resources, ids: &[i64]) -> anyhow::Result<Vec<(i64, i64)>> {
        let read = READS.fetch_add(1, Ordering::Relaxed);
        if read < self.0.rows_panic {
            panic!("read {read} panics");
        }
        ensure!(read >= self.0.rows_panic + self.0.rows_fail, "read {read} fails");
        Ok(ids.iter().map(|id| (*id, *id)).collect())
    }
}

struct Pages {
    input: Items,
    after: i64,
}

#[async_trait]
impl IdPages for Pages {
    async fn next(&mut self, limit: usize) -> anyhow::Result<Vec<i64>> {
        if self.input.page_delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(self.input.page_delay_ms)).await;
        }
        let last = (self.after + i64::try_from(limit)?).min(self.input.items);
        let mut ids: Vec<i64> = (self.after + 1..=last).collect();
        self.after = last;
        if let Some(at) = self
            .input
            .repeats
            .and_then(|id| ids.iter().position(|other| *other == id))
        {
            ids.insert(at, ids[at]);
        }
        if let Some(at) = self
            .input
            .descends
            .and_then(|id| ids.iter().position(|other| *other == id))
            .filter(|at| *at > 0)
        {
            ids.swap(at - 1, at);
        }
        Ok(ids)
    }
}

/// The rows of `chaos.rows`.
struct ChaosRows;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rows {
    /// Planned from one snapshot.
    consistent: bool,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
}

impl Workflow for ChaosRows {
    const NAME: &'static str = "chaos-rows";
    type Input = Rows;
    type Output = FanOutSummary;

    async fn run(&self, ctx: Context, input: Rows) -> anyhow::Result<FanOutSummary> {
        let source = SqlSource::<Row>::new(
            "rows",
            "select array(select id from chaos.rows where id > $1 order by id limit $2)",
            "select id from chaos.rows where id = any ($1::bigint[])",
        );
        let source = if input.consistent { source.consistent() } else { source };
        ctx.fan_out(source, |row| Ok(Some(command(row.id, 20)))).await
    }
}
