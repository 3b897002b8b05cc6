//! The workflow `chaos-secrets`: what it is given goes by every way there is through a run, and is to be told nowhere.

use std::future::ready;

use futures::FutureExt;
use lockgate::workflow::{Context, RetryPolicy, StepOptions, Workflow};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgDatabaseError;
use sqlx::{PgConnection, PgPool};

/// Each text once.
const KEPT: &str = "create table kept (value text primary key)";
const KEEP: &str = "insert into kept (value) values ($1)";

/// What a run is given, and returns.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// What nobody else is to know.
    pub text: String,
}

/// The workflow.
pub struct ChaosSecrets;

impl Workflow for ChaosSecrets {
    const NAME: &'static str = "chaos-secrets";
    type Input = Given;
    type Output = Given;

    async fn run(&self, ctx: Context, given: Given) -> anyhow::Result<Given> {
        let text = given.text;
        let told: String = ctx.step("told", move || ready(anyhow::Ok(text.clone()))).await?;
        let signal: Option<String> = ctx.wait_signal("go", None).await?;
        anyhow::ensure!(signal.as_ref() == Some(&told), "another signal came");
        let (once, text) = (StepOptions::default().retry(RetryPolicy::none()), told.clone());
        let kept = ctx.transaction_with("keep", once, move |connection| keep(connection, text.clone()).boxed());
        kept.await?;
        Ok(Given { text: told })
    }
}

/// Fails for a text that is there already, with an error of the server whose detail quotes it.
async fn keep(connection: &mut PgConnection, text: String) -> anyhow::Result<()> {
    let kept = sqlx::query(KEEP).bind(text.as_str()).execute(connection).await;
    if let Err(sqlx::Error::Database(error)) = &kept {
        let error = error.try_downcast_ref::<PgDatabaseError>();
        let detail = error.and_then(|error| error.detail()).unwrap_or_default();
        anyhow::ensure!(detail.contains(&text), "the server quotes nothing");
    }
    kept?;
    Ok(())
}

/// Makes the table.
pub async fn create_kept(pool: &PgPool) {
    sqlx::query(KEPT).execute(pool).await.unwrap();
}
