//! Dashboard: is all well?

use super::panel::{Panel, lines, q, stat, table};

/// From top to bottom.
pub const PANELS: &[Panel] = &[
    stat("Leader", "none", "1 while somebody leads: fires schedules, recovers and prunes.")
        .red_below(1.0)
        .prom(&[q("sum(<lockgate.leading>{J})", "leaders")])
        .sql(&[q("select leads::int as leaders from lockgate.v_leader", "")]),
    stat("Live replicas", "none", "Replicas whose last beat is not too old, of all jobs that are chosen.")
        .red_below(1.0)
        .prom(&[q("sum(max by (job) (<lockgate.replicas>{J,lockgate_state=\"live\"}))", "live")])
        .sql(&[q("select count(*) as live from lockgate.v_replicas where state = 'live'", "")]),
    stat("Stuck things", "none", "What does not move and should; the table below says what and why.")
        .red(1.0)
        .prom(&[q("sum(max by (job, lockgate_kind) (<lockgate.stuck>{J}))", "stuck")])
        .sql(&[q("select count(*) as stuck from lockgate.v_stuck", "")]),
    stat("Invariants broken", "none", "Rows of v_invariants: promises of the engine that do not hold.")
        .red(1.0)
        .prom(&[q("max(<lockgate.invariants.violated>{J})", "broken")])
        .sql(&[q("select count(*) as broken from lockgate.v_invariants", "")]),
    stat("Oldest undelivered", "s", "How long the first message that may be sent again has waited, one tried in vain since it was stored; those that are to wait do not count.")
        .red(600.0)
        .prom(&[q("max(<lockgate.undelivered.oldest.age>{J,lockgate_status=\"due\"})", "oldest")])
        .sql(&[q("select coalesce(max(waiting_s), 0) as oldest from lockgate.v_undelivered where status = 'due'", "")]),
    stat("Dead letters", "none", "Messages that redelivery has given up.")
        .red(1.0)
        .prom(&[q("max(<lockgate.undelivered.messages>{J,lockgate_status=\"dead\"})", "dead")])
        .sql(&[q("select messages as dead from lockgate.v_undelivered where status = 'dead'", "")]),
    lines("Items a second", "ops", "Items of fan-outs by what became of them.")
        .prom(&[q("sum by (lockgate_outcome) (rate(<lockgate.items>{J,W}[$__rate_interval]))", "{{lockgate_outcome}}")])
        .sql(&[q("T(items_delivered_per_s, items_refused_per_s, items_unknown_per_s)", "")]),
    lines("Runs ended a second", "ops", "Runs by how they ended.")
        .prom(&[q("sum by (lockgate_outcome) (rate(<lockgate.runs.ended>{J,W}[$__rate_interval]))", "{{lockgate_outcome}}")])
        .sql(&[q("T(runs_completed_per_s, runs_failed_per_s)", "")]),
    lines("Messages acknowledged a second", "ops", "By the way they went: fan-outs, direct, outbox, redelivery.")
        .prom(&[q(
            "sum by (lockgate_path) (rate(<messaging.client.sent.messages>{J,error_type=\"\"}[$__rate_interval]))",
            "{{lockgate_path}}",
        )])
        .sql(&[q("T(items_delivered_per_s, commands_delivered_per_s, outbox_delivered_per_s, redelivered_per_s)", "")]),
    lines("Pick-up of runs", "s", "From the start of a run to its first claim, with the delay that was asked for; the views know the newest 5,000 runs, by queue.")
        .rows()
        .prom(&[
            q("histogram_quantile(0.5, sum by (le) (rate(<lockgate.run.pickup.duration>_bucket{J,W}[$__rate_interval])))", "p50"),
            q("histogram_quantile(0.99, sum by (le) (rate(<lockgate.run.pickup.duration>_bucket{J,W}[$__rate_interval])))", "p99"),
        ])
        .sql(&[q(
            "select queue, count(*) as runs, percentile_cont(0.5) within group (order by after_s) as p50_s, \
                    percentile_cont(0.99) within group (order by after_s) as p99_s \
             from (select queue, started_at, extract(epoch from started_at - created_at)::float8 as after_s \
                     from lockgate.v_runs order by run_id desc limit 5000) newest \
             where started_at is not null group by queue order by p99_s desc limit 10",
            "",
        )]),
    table("What is stuck, by kind", "none", "How many things of each kind do not move; the views say which, since when and why.")
        .from_views("What is stuck, and why", "What does not move, since when and why.")
        .empty_when_well()
        .prom(&[q("max by (lockgate_kind) (<lockgate.stuck>{J}) > 0", "{{lockgate_kind}}")])
        .sql(&[q("select kind, subject, run_id, since, why from lockgate.v_stuck order by since limit 50", "")]),
    table("Schedules", "none", "How many are late or cannot be fired; the views show the next slots.")
        .over_time()
        .prom(&[
            q("max(<lockgate.schedules.overdue>{J})", "overdue"),
            q("max(<lockgate.schedules.with_problem>{J})", "with a problem"),
        ])
        .sql(&[q(
            // Grafana cannot read the infinity of a schedule that has no next slot.
            "select n.schedule, n.workflow, nullif(n.next_slot, 'infinity') as next_slot, n.late_s, n.last_run as run_id, n.last_status, n.problem \
             from lockgate.v_schedules_next n where n.paused_at is null order by n.next_slot limit 20",
            "",
        )]),
];
