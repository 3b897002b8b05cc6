//! Dashboard: runs, steps and batches.

use super::panel::{Panel, lines, q, table};

/// From top to bottom.
pub const PANELS: &[Panel] = &[
    lines("Started, claimed, ended a second", "ops", "Runs in, taken up and over; what the command line, SQL and a caller's transaction start is counted by the leader, up to lease.sweep later.")
        .prom(&[
            q("sum(rate(<lockgate.runs.started>{J,W}[$__rate_interval]))", "started"),
            q("sum(rate(<lockgate.runs.claimed>{J,W}[$__rate_interval]))", "claimed"),
            q("sum(rate(<lockgate.runs.ended>{J,W}[$__rate_interval]))", "ended"),
        ]),
    lines("Duration of runs", "s", "From start to end; the views show the newest 5,000 runs by workflow.")
        .rows()
        .prom(&[
            q("histogram_quantile(0.5, sum by (le, lockgate_workflow) (rate(<lockgate.run.duration>_bucket{J,W}[$__rate_interval])))", "p50 {{lockgate_workflow}}"),
            q("histogram_quantile(0.95, sum by (le, lockgate_workflow) (rate(<lockgate.run.duration>_bucket{J,W}[$__rate_interval])))", "p95 {{lockgate_workflow}}"),
            q("histogram_quantile(0.99, sum by (le, lockgate_workflow) (rate(<lockgate.run.duration>_bucket{J,W}[$__rate_interval])))", "p99 {{lockgate_workflow}}"),
        ])
        .sql(&[q(
            "select workflow, status, count(*) as runs, avg(age_s) as mean_s, max(age_s) as longest_s \
             from (select workflow, status, age_s from lockgate.v_runs order by run_id desc limit 5000) newest \
             where workflow in ($workflow) group by 1, 2 order by 3 desc",
            "",
        )]),
    lines("Ready and running by queue", "none", "Runs whose code may go on, and those whose code is held; the views also show limits and who is paused.")
        .rows()
        .prom(&[
            q("max by (lockgate_queue) (<lockgate.queue.ready>{J})", "ready {{lockgate_queue}}"),
            q("max by (lockgate_queue) (<lockgate.queue.running>{J})", "running {{lockgate_queue}}"),
        ])
        .sql(&[q("select * from lockgate.v_queue_health order by ready desc limit 100", "")]),
    lines("Oldest ready run", "s", "How long the first of each queue has waited.")
        .bars()
        .red(300.0)
        .prom(&[q("max by (lockgate_queue) (<lockgate.queue.oldest_ready.age>{J})", "{{lockgate_queue}}")])
        .sql(&[q("select queue, coalesce(oldest_ready_age_s, 0) as oldest_ready_age_s from lockgate.v_queue_health order by 2 desc", "")]),
    lines("Steps and retries a second", "ops", "Steps recorded by kind, and tries that were repeated.")
        .from_views("Steps a second", "Steps recorded, of all kinds; what was tried again only metrics tell.")
        .prom(&[
            q("sum by (lockgate_kind) (rate(<lockgate.steps>{J,W}[$__rate_interval]))", "{{lockgate_kind}}"),
            q("sum(rate(<lockgate.step.retries>{J,W}[$__rate_interval]))", "retries"),
        ])
        .sql(&[q("T(steps_per_s)", "")]),
    lines("Duration of steps, p99", "s", "What the user's code takes, by workflow.")
        .prom(&[q("histogram_quantile(0.99, sum by (le, lockgate_workflow) (rate(<lockgate.step.duration>_bucket{J,W}[$__rate_interval])))", "{{lockgate_workflow}}")]),
    table("Fan-outs under way", "none", "What is planned, done and left of each open fan-out, its pace, and when it is done at that pace.")
        .over_time()
        .empty_when_well()
        .prom(&[q("max by (lockgate_workflow) (<lockgate.fan_out.remaining>{J,W})", "{{lockgate_workflow}}")])
        .sql(&[q(
            "select run_id, workflow, step, planned, done, remaining, items_per_s, done_at, plan_trouble from lockgate.v_run_progress \
             where workflow in ($workflow) order by remaining desc limit 50",
            "",
        )]),
    lines("Batches: ends and hand-backs", "ops", "How batches ended, and why some were given back unfinished.")
        .from_views("Batches finished a second", "Batches that were finished; what was given back unfinished is in the history of its run.")
        .prom(&[
            q("sum by (lockgate_end) (rate(<lockgate.batches>{J,W}[$__rate_interval]))", "{{lockgate_end}}"),
            q("sum by (lockgate_reason) (rate(<lockgate.batch.hand_backs>{J}[$__rate_interval]))", "handed back: {{lockgate_reason}}"),
        ])
        .sql(&[q("T(batches_per_s)", "")]),
    lines("Duration of batches and reads", "s", "From claim to end, and what reading the source took; the views show what is held.")
        .from_views("Batches that are held", "Who holds which batch and until when, the lease that ends first above; how long batches take only metrics tell.")
        .rows()
        .empty_when_well()
        .prom(&[
            q("histogram_quantile(0.5, sum by (le) (rate(<lockgate.batch.duration>_bucket{J,W}[$__rate_interval])))", "batch p50"),
            q("histogram_quantile(0.99, sum by (le) (rate(<lockgate.batch.duration>_bucket{J,W}[$__rate_interval])))", "batch p99"),
            q("histogram_quantile(0.99, sum by (le) (rate(<lockgate.source.read.duration>_bucket{J,W}[$__rate_interval])))", "read p99"),
        ])
        .sql(&[q(
            "select run_id, seq, step, items, holder, lease_until, overdue from lockgate.v_batches where status = 'claimed' order by lease_until limit 100",
            "",
        )]),
    table("Failed and cancelled", "none", "Runs that did not complete over the time shown, by workflow; the views name them, newest first.")
        .empty_when_well()
        .prom(&[q("sum by (lockgate_workflow, lockgate_outcome) (increase(<lockgate.runs.ended>{J,W,lockgate_outcome=~\"failed|cancelled\"}[$__range])) > 0", "{{lockgate_workflow}} {{lockgate_outcome}}")])
        .sql(&[q(
            "select run_id, workflow, status, finished_at, reason from lockgate.v_failures \
             where $__timeFilter(finished_at) and workflow in ($workflow) order by finished_at desc limit 100",
            "",
        )]),
    lines("Group commits", "none", "How many writes go together; what one takes is beside it.")
        .prom(&[q("histogram_quantile(0.5, sum by (le, lockgate_group) (rate(<lockgate.group.size>_bucket{J}[$__rate_interval])))", "{{lockgate_group}}")]),
    lines("Duration of group commits, p99", "s", "What a group's statement takes.")
        .prom(&[q("histogram_quantile(0.99, sum by (le, lockgate_group) (rate(<lockgate.group.duration>_bucket{J}[$__rate_interval])))", "{{lockgate_group}}")]),
    table("Who holds the places of queues", "none", "Runs that count towards a limit, and what they wait for themselves.")
        .empty_when_well()
        .sql(&[q("select queue, limit_key, run_id, workflow, status, holds, replica, claimed_at, lease_until, wake_at from lockgate.v_queue_holders order by queue, claimed_at limit 100", "")]),
    table("Newest runs", "none", "The newest runs of the workflows chosen above; follow an id to see one run.")
        .wide()
        .sql(&[q(
            "select run_id, workflow, queue, status, stopping, created_at, started_at, finished_at, age_s, holder, attempts, reason from lockgate.v_runs \
             where workflow in ($workflow) order by run_id desc limit 100",
            "",
        )]),
    table("One run", "none", "The run named above.")
        .wide()
        .empty_when_well()
        .sql(&[q("select * from lockgate.v_runs where run_id = nullif(${run:sqlstring}, '')::uuid", "")]),
    table("One run: proof", "none", "Whether every item planned has exactly one fate.")
        .empty_when_well()
        .sql(&[q("select * from lockgate.v_run_proof where run_id = nullif(${run:sqlstring}, '')::uuid", "")]),
    table("One run: steps", "none", "What is recorded of its steps.")
        .empty_when_well()
        .sql(&[q("select step, kind, status, started_at, finished_at, due_at, attempts, planned_items, plan_trouble from lockgate.v_steps \
                  where run_id = nullif(${run:sqlstring}, '')::uuid order by started_at limit 500", "")]),
    table("One run: history", "none", "Every change of its state that is kept, and who made it.")
        .wide()
        .empty_when_well()
        .sql(&[q(
            "select at, entity, batch_seq, from_status, to_status, token, replica, since, actor, reason from lockgate.transitions \
             where run_id = nullif(${run:sqlstring}, '')::uuid order by id limit 500",
            "",
        )]),
];
