//! Schedules fire each slot once, through any number of leaders, and stay what their rows say (RC.1).
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

#[path = "support_schedules/mod.rs"]
mod support;

#[path = "schedules/backfill.rs"]
mod backfill;
#[path = "schedules/catch_up.rs"]
mod catch_up;
#[path = "schedules/command_line.rs"]
mod command_line;
#[path = "schedules/edits.rs"]
mod edits;
#[path = "schedules/once.rs"]
mod once;
#[path = "schedules/overlaps.rs"]
mod overlaps;
#[path = "schedules/starts.rs"]
mod starts;

use support::World;

/// A schedule of each minute that has been there for ten minutes and never fired. A minute that is about to end is
/// waited out: what a test expects of its slots holds within one.
async fn ten_minutes_missed(world: &World, name: &str, rules: &str) {
    world
        .run("select pg_sleep(60.1 - s) from extract(second from clock_timestamp()) s where s > 40")
        .await;
    world
        .run(&format!(
            "insert into lockgate.schedules (name, workflow, cron) values ('{name}', 'reports', '* * * * *');
             update lockgate.schedules set active_from = date_trunc('minute', clock_timestamp()) - interval '10 minutes'
               {rules} where name = '{name}'"
        ))
        .await;
}

const RUNS: &str = "select count(*) from lockgate.task_runs";
