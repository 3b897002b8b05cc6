//! Two fan-outs of one run beside each other, of which one is soon over and the other is not.

use std::time::Duration;

use async_trait::async_trait;
use lockgate::delivery::Command;
use lockgate::workflow::{Context, IdPages, Resources, Source, Workflow};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// The first of the few are sent.
static FEW_SENT: Notify = Notify::const_new();
/// Whoever goes on with a run may have sent them before.
const AT_MOST: Duration = Duration::from_secs(30);

/// What a run of it sends.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Pair {
    /// Items of the fan-out after which something follows.
    pub few: i64,
    /// Items of the one beside it.
    pub many: i64,
    /// How long each batch of those takes.
    pub many_ms: u64,
}

/// Sends few messages and does something more, beside many, which are planned behind them.
pub struct ChaosPair;

impl Workflow for ChaosPair {
    const NAME: &'static str = "chaos-pair";
    type Input = Pair;
    type Output = u64;

    async fn run(&self, ctx: Context, pair: Pair) -> anyhow::Result<u64> {
        let few = async {
            let few = Numbers::new("few", pair.few).noted(&FEW_SENT);
            let sent = ctx.fan_out(few, told("few")).await?;
            ctx.step("tell", || async { anyhow::Ok(()) }).await?;
            anyhow::Ok(sent.delivered)
        };
        let many = Numbers::new("many", pair.many).slow(pair.many_ms).behind(&FEW_SENT);
        let many = ctx.fan_out(many, told("many"));
        let (few, many) = tokio::try_join!(few, many)?;
        Ok(few + many.delivered)
    }
}

/// Makes a message of a number that says whose it is.
pub fn told(whose: &'static str) -> impl Fn(&i64) -> anyhow::Result<Option<Command>> + Send + Sync + 'static {
    move |item| {
        Ok(Some(Command {
            command_type: "email".into(),
            topic: None,
            key: Some(item.to_string().into_bytes()),
            payload: format!(r#"{{"item":{item},"whose":"{whose}"}}"#).into_bytes(),
            correlation_id: None,
        }))
    }
}

/// The numbers from one on.
pub struct Numbers {
    name: &'static str,
    items: i64,
    delay: Duration,
    notes: Option<&'static Notify>,
    behind: Option<&'static Notify>,
}

impl Numbers {
    /// So many of them.
    #[must_use]
    pub fn new(name: &'static str, items: i64) -> Self {
        Self {
            name,
            items,
            delay: Duration::ZERO,
            notes: None,
            behind: None,
        }
    }

    /// Notes that they are sent.
    fn noted(self, sent: &'static Notify) -> Self {
        let notes = Some(sent);
        Self { notes, ..self }
    }

    /// Is planned once those are sent.
    fn behind(self, sent: &'static Notify) -> Self {
        let behind = Some(sent);
        Self { behind, ..self }
    }

    /// Takes so long for the rows of a batch.
    #[must_use]
    pub fn slow(self, delay_ms: u64) -> Self {
        let delay = Duration::from_millis(delay_ms);
        Self { delay, ..self }
    }
}

#[async_trait]
impl Source for Numbers {
    type Row = i64;

    fn name(&self) -> &str {
        self.name
    }

    async fn ids(&self, _resources: &Resources, after: Option<i64>) -> anyhow::Result<Box<dyn IdPages>> {
        if let (Some(sent), None, 1..) = (self.behind, after, self.items) {
            let _ = tokio::time::timeout(AT_MOST, sent.notified()).await;
        }
        let (after, items) = (after.unwrap_or(0), self.items);
        Ok(Box::new(Pages { after, items }))
    }

    async fn rows(&self, _resources: &Resources, ids: &[i64]) -> anyhow::Result<Vec<(i64, i64)>> {
        if let Some(sent) = self.notes {
            sent.notify_one();
        }
        tokio::time::sleep(self.delay).await;
        Ok(ids.iter().map(|id| (*id, *id)).collect())
    }
}

struct Pages {
    after: i64,
    items: i64,
}

#[async_trait]
impl IdPages for Pages {
    async fn next(&mut self, limit: usize) -> anyhow::Result<Vec<i64>> {
        let last = (self.after + i64::try_from(limit)?).min(self.items);
        let ids = (self.after + 1..=last).collect();
        self.after = last;
        Ok(ids)
    }
}
