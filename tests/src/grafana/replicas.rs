//! Dashboard: who is there, who leads, and what it costs.

use super::panel::{Panel, lines, q, table};

/// From top to bottom.
pub const PANELS: &[Panel] = &[
    lines("Who leads", "none", "1 for the replica that leads; by OTLP the line of one that died stays for five minutes.")
        .rows()
        .prom(&[q("<lockgate.leading>{J}", "{{instance}}")])
        .sql(&[q("select * from lockgate.v_leader", "")]),
    lines("Nobody leads", "s", "How long every candidate has known of no leader; 0 when one does.")
        .red(30.0)
        .prom(&[q("min(<lockgate.leaderless.duration>{J})", "leaderless")]),
    lines("Elections", "none", "Terms that began and ended, and why.")
        .rows()
        .prom(&[q("sum by (lockgate_end) (increase(<lockgate.leader.elections>{J}[$__rate_interval]))", "{{lockgate_end}}")])
        .sql(&[q("select at, term, event, replica, reason from lockgate.v_terms limit 50", "")]),
    lines("Runs and batches held", "none", "What each replica works on; the views show each replica whole.")
        .from_views("Replicas, and what they hold", "Each replica, the newest first: its state, what it does, what it held at its last heartbeat and what runs there now.")
        .rows()
        .prom(&[
            q("<lockgate.runs.in_flight>{J}", "runs {{instance}}"),
            q("<lockgate.worker.slots>{J,lockgate_state=\"busy\"}", "batches {{instance}}"),
        ])
        .sql(&[q(
            "select replica, host, state, leads, version, roles, started_at, silent_s, batches_held, runs_held, window_used, breakers_open, clock_offset_s \
             from lockgate.v_replicas order by started_at desc limit 100",
            "",
        )]),
    lines("Leases lost, things recovered", "none", "Leases that ended under their holder, and what the leader gave to others, each step.")
        .from_views("Leases lost", "Leases that ended under their holder, each step; what was recovered only metrics tell.")
        .prom(&[
            q("sum by (lockgate_kind) (increase(<lockgate.leases.lost>{J}[$__rate_interval]))", "lost: {{lockgate_kind}}"),
            q("sum by (lockgate_kind) (increase(<lockgate.recovered>{J}[$__rate_interval]))", "recovered: {{lockgate_kind}}"),
        ])
        .empty_when_well()
        .sql(&[q("T(leases_lost)", "")]),
    lines("Jobs of the leader, p99", "s", "Schedules, sweep, retention and measurement.")
        .prom(&[q("histogram_quantile(0.99, sum by (le, lockgate_job) (rate(<lockgate.leader.job.duration>_bucket{J}[$__rate_interval])))", "{{lockgate_job}}")]),
    lines("Jobs of the leader that failed", "ops", "A job that fails is tried again at its next turn.")
        .empty_when_well()
        .prom(&[q("sum by (lockgate_job) (rate(<lockgate.leader.job.duration>_count{J,lockgate_outcome=\"failed\"}[$__rate_interval]))", "{{lockgate_job}}")]),
    lines("Time in the database by verb", "s", "Seconds a second, the ten verbs that take most.")
        .prom(&[q("topk(10, sum by (db_operation_name) (rate(<db.client.operation.duration>_sum{J}[$__rate_interval])))", "{{db_operation_name}}")]),
    lines("Duration of verbs, p99", "s", "The slowest one in a hundred of each verb.")
        .prom(&[q("histogram_quantile(0.99, sum by (le, db_operation_name) (rate(<db.client.operation.duration>_bucket{J}[$__rate_interval])))", "{{db_operation_name}}")]),
    lines("Connections", "none", "Of each pool by state; the views of Postgres itself show them by role.")
        .rows()
        .prom(&[q(
            "sum by (db_client_connection_pool_name, db_client_connection_state) (<db.client.connection.count>{J})",
            "{{db_client_connection_pool_name}} {{db_client_connection_state}}",
        )])
        .sql(&[q(
            "select usename as role, application_name, coalesce(state, 'hidden') as state, count(*) as connections from pg_catalog.pg_stat_activity \
             where datname = current_database() group by 1, 2, 3 order by 4 desc limit 50",
            "",
        )]),
    lines("Wait for a connection, p99", "s", "How long work waits for one of its pool.")
        .prom(&[q("histogram_quantile(0.99, sum by (le, db_client_connection_pool_name) (rate(<db.client.connection.wait_time>_bucket{J}[$__rate_interval])))", "{{db_client_connection_pool_name}}")]),
    lines("Oldest snapshot", "s", "A transaction, slot or prepared transaction that keeps deleted rows from being cleared away.")
        .from_views("Old snapshots", "Transactions, slots and prepared transactions that keep deleted rows from being cleared away.")
        .rows()
        .red(900.0)
        .empty_when_well()
        .prom(&[q("max(<lockgate.db.oldest_snapshot.age>{J})", "oldest")])
        .sql(&[q("select * from lockgate.v_snapshots", "")]),
    lines("Dead rows", "none", "By table, as Postgres counts them; the views show sizes too.")
        .from_views("Dead rows and sizes of tables", "Rows, dead rows and size of each table as Postgres counts them, the largest above.")
        .rows()
        .prom(&[q("topk(10, max by (lockgate_table) (<lockgate.db.dead_rows>{J}))", "{{lockgate_table}}")])
        .sql(&[q("select * from lockgate.v_storage order by bytes desc", "")]),
    lines("Size of tables", "bytes", "With their indexes, the ten largest.")
        .prom(&[q("topk(10, max by (lockgate_table) (<lockgate.db.table.size>{J}))", "{{lockgate_table}}")]),
    lines("CPU", "none", "Cores that each replica uses.")
        .prom(&[q("sum by (instance) (rate(<process.cpu.time>{J}[$__rate_interval]))", "{{instance}}")]),
    lines("Memory", "bytes", "Resident memory of each replica.")
        .prom(&[q("<process.memory.usage>{J}", "{{instance}}")]),
    lines("Clock offset", "s", "Database clock less the replica's; nothing decides by it, logs and spans show it.")
        .prom(&[q("<lockgate.clock.offset>{J}", "{{instance}}")]),
    lines("Telemetry itself", "ops", "Records that the collector took and did not take.")
        .prom(&[q("sum by (lockgate_signal, lockgate_outcome) (rate(<lockgate.telemetry.exported>{J}[$__rate_interval]))", "{{lockgate_signal}} {{lockgate_outcome}}")]),
    table("Acts of people", "none", "What was done by hand, by whom and why.")
        .wide()
        .empty_when_well()
        .sql(&[q("select at, actor, entity, run_id, key, from_status, to_status, reason from lockgate.v_acts where $__timeFilter(at) order by at desc limit 100", "")]),
];
