//! The doctor's look at one run: whether all that is written of it goes together, and whether it moves.

use uuid::Uuid;

use super::doctor::Check;
use super::doctor_fleet::{named_broken, named_stuck};
use super::doctor_postgres::unanswered;
use super::{Context, Exit, Failure};
use crate::postgres::{Inspector, Operator};

pub(super) async fn checks(context: &Context, run: Uuid) -> Result<Vec<Check>, Failure> {
    let database = context.database().await?;
    let status = Operator::new(database.clone(), None).status_of_run(run).await?;
    let Some(status) = status else {
        return Err(Failure::new(Exit::NotFound, format!("there is no run {run}")));
    };
    let inspector = Inspector::new(database);
    let broken = match inspector.run_invariants(run).await {
        Ok(found) if found.is_empty() => Check::ok("run.invariants", "nothing of it is as it must never be"),
        Ok(found) => Check::fail(
            "run.invariants",
            format!("{} promises are broken: {}", found.len(), named_broken(&found)),
            "keep the rows, delete nothing, see all with select * from lockgate.run_invariants(run), and do as the runbook says (LockgateInvariantBroken)",
        ),
        Err(error) => unanswered("run.invariants", error),
    };
    let stuck = match inspector.stuck_of_run(run).await {
        Ok(found) if found.is_empty() => {
            Check::ok("run.stuck", format!("it is {status}, and nothing of it is overdue"))
        }
        Ok(found) => Check::warn(
            "run.stuck",
            format!("it is {status}: {}", named_stuck(&found)),
            "`runs why RUN` says what it waits for and what to do",
        ),
        Err(error) => unanswered("run.stuck", error),
    };
    Ok(vec![broken, stuck])
}
