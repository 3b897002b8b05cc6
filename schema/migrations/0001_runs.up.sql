-- Runs and their steps: what was started, by whom, how far it is and how it ended.
create schema if not exists lockgate;
comment on schema lockgate is 'Lockgate: durable runs, leased batches, their delivery and the audit of all of it';

create table lockgate.task_runs (
    id uuid primary key,
    workflow text not null check (workflow <> ''),
    status text not null check (status in
        ('queued', 'running', 'suspended', 'paused', 'completed', 'failed', 'cancelled', 'quarantined')),
    driven_by text not null default 'engine' check (driven_by in ('engine', 'caller')),
    params bytea not null default '{}',
    output bytea,
    origin_id uuid not null,
    singleton_key text check (singleton_key <> ''),
    idempotency_key text check (idempotency_key <> ''),
    schedule text,
    slot timestamptz,
    after_run uuid,
    pace_per_s integer check (pace_per_s > 0),
    pace_next_at timestamptz not null default '-infinity',
    deadline_at timestamptz,
    wake_at timestamptz,
    wake_seq bigint not null default 0,
    claim_token bigint not null default 0,
    claim_id uuid,
    claimed_by uuid,
    lease_until timestamptz,
    attempts smallint not null default 0,
    last_batch_seq integer not null default 0,
    stop_status text check (stop_status in ('failed', 'cancelled')),
    stop_reason text,
    stop_requested_at timestamptz,
    reason text,
    traceparent text,
    leader_term bigint,
    actor text not null default current_user,
    created_at timestamptz not null default clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    pruning_since timestamptz,
    check ((claim_id is null) = (claimed_by is null) and (claim_id is null) = (lease_until is null)),
    check ((schedule is null) = (slot is null)),
    check ((finished_at is not null) = (status in ('completed', 'failed', 'cancelled')))
) with (
    -- Renewals and wake-ups rewrite a run's row in place; room on the page keeps them HOT.
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 200,
    autovacuum_analyze_scale_factor = 0.05
);

-- The promises of uniqueness (D3): try_start_new_run inserts against these three.
create unique index task_runs_one_active on lockgate.task_runs (singleton_key)
    where singleton_key is not null and status in ('queued', 'running', 'suspended', 'paused', 'quarantined');
create unique index task_runs_one_per_key on lockgate.task_runs (workflow, idempotency_key)
    where idempotency_key is not null;
create unique index task_runs_one_per_slot on lockgate.task_runs (schedule, slot) where slot is not null;
-- claim_run: runs whose code has something to do.
create index task_runs_wakeable on lockgate.task_runs (wake_at) where claim_id is null and wake_at is not null;
-- recover_runs: leases to look at; small, as only claimed runs are in it.
create index task_runs_claimed on lockgate.task_runs (id) where claim_id is not null;
-- claimable_runs, settle_stops, the overlap rule of schedules: runs that are not over.
create index task_runs_active on lockgate.task_runs (status, id)
    where status in ('queued', 'running', 'suspended', 'paused', 'quarantined');
-- prune_runs: finished runs by age.
create index task_runs_finished on lockgate.task_runs (finished_at) where finished_at is not null;

comment on table lockgate.task_runs is 'One row per run: one execution of a workflow';
comment on column lockgate.task_runs.id is 'UUIDv7 made by whoever starts the run';
comment on column lockgate.task_runs.workflow is 'Name of the workflow';
comment on column lockgate.task_runs.status is 'queued, running, suspended, paused, completed, failed, cancelled or quarantined';
comment on column lockgate.task_runs.driven_by is 'engine: replicas run the workflow''s code; caller: whoever started it drives it by the six verbs';
comment on column lockgate.task_runs.params is 'The input, exact bytes of a JSON document';
comment on column lockgate.task_runs.output is 'What the workflow returned, exact bytes of a JSON document';
comment on column lockgate.task_runs.origin_id is 'The first run of a chain of retries; namespace of every message-id';
comment on column lockgate.task_runs.singleton_key is 'At most one unfinished run has this key';
comment on column lockgate.task_runs.idempotency_key is 'At most one run of the workflow has this key, for as long as the run is kept (retention)';
comment on column lockgate.task_runs.schedule is 'Name of the schedule that fired it';
comment on column lockgate.task_runs.slot is 'Nominal instant of the schedule it stands for';
comment on column lockgate.task_runs.after_run is 'It starts only when that run is over';
comment on column lockgate.task_runs.pace_per_s is 'Messages per second the whole fleet may send for this run; null: no limit';
comment on column lockgate.task_runs.pace_next_at is 'From when the next batch of a paced run may be claimed';
comment on column lockgate.task_runs.deadline_at is 'When the run fails if it is not over';
comment on column lockgate.task_runs.wake_at is 'From when a replica may run the workflow''s code; null: it waits for something else';
comment on column lockgate.task_runs.wake_seq is 'Counts wake-ups, so that a suspend cannot overlook one';
comment on column lockgate.task_runs.claim_token is 'Grows with every claim of the run';
comment on column lockgate.task_runs.claim_id is 'Chosen by the claimer before the request; every later write of the holder names it';
comment on column lockgate.task_runs.claimed_by is 'Replica that runs the workflow''s code';
comment on column lockgate.task_runs.lease_until is 'When that right ends unless renewed';
comment on column lockgate.task_runs.attempts is 'How many holders died in a row';
comment on column lockgate.task_runs.last_batch_seq is 'Highest batch number given out';
comment on column lockgate.task_runs.stop_status is 'How the run ends once its batches in flight are handed back';
comment on column lockgate.task_runs.stop_reason is 'Why it was asked to stop';
comment on column lockgate.task_runs.stop_requested_at is 'Since when nothing more of it is claimed';
comment on column lockgate.task_runs.reason is 'Why it failed, was cancelled, paused or quarantined';
comment on column lockgate.task_runs.traceparent is 'W3C trace context of the start';
comment on column lockgate.task_runs.leader_term is 'Term of the leader that fired it, for scheduled runs';
comment on column lockgate.task_runs.actor is 'Who started it';
comment on column lockgate.task_runs.created_at is 'When it was started';
comment on column lockgate.task_runs.started_at is 'When its code ran first';
comment on column lockgate.task_runs.finished_at is 'When it was over';
comment on column lockgate.task_runs.pruning_since is 'When retention began to delete its rows; from then on nothing can be proved of it';

create table lockgate.run_steps (
    run_id uuid not null references lockgate.task_runs on delete cascade,
    path text not null check (path <> ''),
    kind text not null check (kind in ('fan_out')),
    status text not null default 'open' check (status in ('open', 'completed')),
    consistent boolean not null default false,
    plan_cursor bigint,
    planned_items bigint not null default 0,
    planned_batches integer not null default 0,
    planned_at timestamptz,
    plan_trouble text,
    result bytea,
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    primary key (run_id, path)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 200);

comment on table lockgate.run_steps is 'One row per checkpointed step of a run';
comment on column lockgate.run_steps.run_id is 'The run';
comment on column lockgate.run_steps.path is 'The step''s place in the code, ordinal:name joined by slashes';
comment on column lockgate.run_steps.kind is 'fan_out: covers many items';
comment on column lockgate.run_steps.status is 'open or completed';
comment on column lockgate.run_steps.consistent is 'Planned from one snapshot; nothing is claimed before the plan is whole';
comment on column lockgate.run_steps.plan_cursor is 'Last id planned; planning goes on above it';
comment on column lockgate.run_steps.planned_items is 'Items in its batches so far';
comment on column lockgate.run_steps.planned_batches is 'Batches planned so far';
comment on column lockgate.run_steps.planned_at is 'When the plan was whole';
comment on column lockgate.run_steps.plan_trouble is 'What reading the source last met, while planning is being tried again';
comment on column lockgate.run_steps.result is 'What the step returned, exact bytes of a JSON document';
comment on column lockgate.run_steps.started_at is 'When the step began';
comment on column lockgate.run_steps.finished_at is 'When it was completed';
