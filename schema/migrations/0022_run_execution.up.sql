-- Durable workflows: runs are claimed in pages, their steps are recorded one row each, a claim is audited once, at its end.

alter table lockgate.task_runs
    add column queue text check (queue <> ''),
    add column priority smallint check (priority between 0 and 20),
    add column rank timestamptz,
    add column code_version integer check (code_version > 0),
    add column claimed_at timestamptz,
    add column alone boolean,
    add column seed_id uuid;
-- A run's row is written three times in its life: started, claimed, ended.
alter table lockgate.task_runs set (fillfactor = 50);

comment on column lockgate.task_runs.queue is 'Queue from which it is claimed; null: the one with the name of its workflow';
comment on column lockgate.task_runs.priority is 'Goes before runs of lower priority that came up to 15 seconds a step earlier; null: 0';
comment on column lockgate.task_runs.rank is 'Place among the ready runs of its queue, never later than wake_at; null: wake_at';
comment on column lockgate.task_runs.code_version is 'Version of the workflow''s code that it began with; null: 1, or not begun';
comment on column lockgate.task_runs.claimed_at is 'When its last claim began';
comment on column lockgate.task_runs.alone is 'Claimed as a suspect: what its holder dies of is counted against it; null: not';
comment on column lockgate.task_runs.seed_id is 'Where its recorded chances come from; null: origin_id';

-- claim_runs, next_due: runs whose code may go on, in the order of their queue. What is claimed, paused or over is not in
-- it, so that it never stands before what may be claimed.
create index task_runs_ready on lockgate.task_runs (coalesce(queue, workflow), coalesce(rank, wake_at), wake_at)
    where wake_at is not null and claim_id is null and status in ('queued', 'running', 'suspended');
drop index lockgate.task_runs_wakeable;
-- list_unfinished_runs, with the one above and task_runs_claimed: runs that wait without a timer, or for a person.
create index task_runs_resting on lockgate.task_runs (id)
    where claim_id is null and finished_at is null and (wake_at is null or status in ('paused', 'quarantined'));
-- Looks for work start from open fan-outs, of which an ordinary run has none.
drop index lockgate.task_runs_active;

alter table lockgate.transitions add column since timestamptz;
comment on column lockgate.transitions.since is 'For the end of a claim: when it began. A run''s claims are recorded once, here';

-- prune_transitions. Audit rows of runs go with their run; writing them here too would log 72 bytes more for each.
drop index lockgate.transitions_by_time;
create index transitions_by_time on lockgate.transitions using brin (at) where run_id is null;

-- The key of a step's run would lock the run's row with every checkpoint; retention deletes steps itself.
alter table lockgate.run_steps
    drop constraint run_steps_run_id_fkey,
    drop constraint run_steps_kind_check,
    drop constraint run_steps_status_check,
    alter column path type text collate "C",
    alter column result set storage external,
    alter column consistent drop not null,
    alter column planned_items drop not null,
    alter column planned_batches drop not null,
    add column due_at timestamptz,
    add column attempts smallint,
    add column claim_token bigint,
    add constraint run_steps_kind_check check (kind in ('fan_out', 'step', 'undoable', 'transaction', 'sleep', 'signal',
        'child', 'version', 'select', 'publish')),
    add constraint run_steps_status_check check (status in ('open', 'completed', 'failed', 'dropped')),
    add constraint run_steps_fan_out_check check (kind <> 'fan_out'
        or (consistent is not null and planned_items is not null and planned_batches is not null));
-- A plain step is written once; room is left for the cursors of fan-outs and the ends of waits.
alter table lockgate.run_steps set (fillfactor = 90);
drop index lockgate.run_steps_open;
-- claimable_runs, idle_fan_outs
create index run_steps_fan_outs on lockgate.run_steps (run_id) where kind = 'fan_out' and status = 'open';

comment on column lockgate.run_steps.kind is
    'fan_out: covers many items; step, undoable, transaction: code; sleep, signal, child: waits; version, select: decisions; publish: a command';
comment on column lockgate.run_steps.status is 'open, completed, failed or dropped (open in a branch that lost a select)';
comment on column lockgate.run_steps.consistent is
    'Of a fan-out: planned from one snapshot; nothing is claimed before the plan is whole';
comment on column lockgate.run_steps.result is 'What the step returned, or why it failed, exact bytes of a JSON document';
comment on column lockgate.run_steps.finished_at is
    'When it ended, as its holder told the code; of a fan-out by the database''s clock';
comment on column lockgate.run_steps.due_at is 'When an open step goes on by itself';
comment on column lockgate.run_steps.attempts is 'How often its code has failed; null: never';
comment on column lockgate.run_steps.claim_token is 'Token of the run''s claim under which it was written; null for a fan-out';

create or replace function lockgate.resume_run(run uuid, actor text default null) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    was lockgate.task_runs;
    next_status text;
    next_wake timestamptz;
begin
    select * into was from lockgate.task_runs r where r.id = run for no key update;
    if not found then return 'unknown'; end if;
    if was.status not in ('paused', 'quarantined') then return was.status; end if;
    next_status := case when was.started_at is null then 'queued' else 'running' end;
    -- A run that had begun looks at once what came while it was paused, whatever it waited for.
    next_wake := case when was.driven_by = 'engine' and was.started_at is null then greatest(was.wake_at, clock_timestamp())
                      when was.driven_by = 'engine' then clock_timestamp() end;
    update lockgate.task_runs r
       set status = next_status, reason = null, attempts = 0, wake_seq = r.wake_seq + 1,
           wake_at = next_wake, rank = next_wake - r.priority * interval '15 seconds'
     where r.id = run;
    insert into lockgate.transitions (entity, run_id, from_status, to_status, actor, reason)
    values ('run', run, was.status, next_status, lockgate.acting_user(resume_run.actor), 'resumed');
    perform pg_notify('lockgate_wake', 'run');
    return next_status;
end $$;

do $$ begin
    if exists (select 1 from pg_roles where rolname = 'lockgate_reader') then
        -- claim_id: whether a run is held; whoever only reads cannot use it.
        grant select (queue, priority, rank, code_version, claimed_at, alone, claim_id) on lockgate.task_runs to lockgate_reader;
    end if;
end $$;
