//! The program of docs/tutorial.md, as it is compiled and run; a test holds the two together.

// The document from here.
use std::process::ExitCode;
use std::time::Duration;

use futures::FutureExt;
use lockgate::Engine;
use lockgate::delivery::{Command, EmailTriggerCommand};
use lockgate::postgres::SqlSource;
use lockgate::workflow::{Context, Workflow};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;

/// Invites every member, waits until somebody closes the list, and notes how many were invited.
struct InviteMembers;

#[derive(Clone, Serialize, Deserialize)]
struct Invitation {
    event: String,
}

#[derive(sqlx::FromRow)]
struct Member {
    id: i64,
    email: String,
    name: String,
}

impl Workflow for InviteMembers {
    const NAME: &'static str = "invite-members";
    type Input = Invitation;
    type Output = String;

    async fn run(&self, ctx: Context, input: Invitation) -> anyhow::Result<String> {
        let members = SqlSource::new(
            "members",
            "select array(select id from members where id > $1 order by id limit $2)",
            "select id, email, name from members where id = any ($1)",
        );
        let event = input.event.clone();
        let sent = ctx
            .fan_out(members, move |member: &Member| invite(member, &event).map(Some))
            .await?;
        let a_day = Duration::from_secs(24 * 3600);
        let closed_by: Option<String> = ctx.wait_signal("close", Some(a_day)).await?;
        let closed_by = closed_by.unwrap_or_else(|| "nobody".to_owned());
        let told = format!("{} invited to {}, closed by {closed_by}", sent.delivered, input.event);
        ctx.transaction("note", move |connection| {
            note(connection, input.event.clone(), sent.delivered as i64).boxed()
        })
        .await?;
        Ok(told)
    }
}

fn invite(member: &Member, event: &str) -> anyhow::Result<Command> {
    EmailTriggerCommand {
        recipient_email: (&member.email).into(),
        template_id: "invitation".into(),
        template_context: json!({"name": member.name, "event": event}),
        locale: "en".into(),
        correlation_id: event.to_owned().into(),
        user_id: Some(member.id),
    }
    .into_command()
}

/// Your own row, in the same commit as the record that this step is done.
async fn note(connection: &mut PgConnection, event: String, invited: i64) -> anyhow::Result<()> {
    sqlx::query("insert into events (name, invited) values ($1, $2)")
        .bind(event)
        .bind(invited)
        .execute(connection)
        .await?;
    Ok(())
}

fn main() -> ExitCode {
    lockgate::cli::main(Engine::builder().workflow(InviteMembers))
}
