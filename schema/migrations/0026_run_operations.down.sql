do $$ begin
    if exists (select 1 from pg_roles where rolname = 'lockgate_reader') then
        revoke select (run_id, path, kind, status, consistent, plan_cursor, planned_items, planned_batches, planned_at, plan_trouble,
            started_at, finished_at, due_at, attempts, claim_token) on lockgate.run_steps from lockgate_reader;
        grant select on lockgate.run_steps to lockgate_reader;
        revoke select (parent_id, parent_path, depth, continued_as, undoing, attributes, forked_from)
            on lockgate.task_runs from lockgate_reader;
    end if;
end $$;
drop function lockgate.backfill_schedule(text, timestamptz[], integer, boolean, text, timestamptz[]);
drop function lockgate.run_timeline(uuid, text, integer, boolean);
drop function lockgate.fork_run(uuid, jsonb, text, boolean, text, text);
drop function lockgate.retry_run(uuid, text, text, text);
drop function lockgate.repeated(text, uuid, text, record);
drop function lockgate.repeat_run(uuid, uuid, text, text, bytea, boolean, text, text);
drop function lockgate.find_step(uuid, text);
drop function lockgate.steps_before(uuid, text[]);
drop function lockgate.step_order(integer[], integer[]);
drop function lockgate.step_place(text);
drop function lockgate.merged_attributes(jsonb, jsonb);
comment on column lockgate.task_runs.started_at is 'When its code ran first';
drop index lockgate.task_runs_forks;
drop index lockgate.task_runs_attributes;
alter table lockgate.task_runs
    drop constraint task_runs_attributes_fit,
    drop column nominal_at,
    drop column repeats_slot;

drop function lockgate.start_run(text, jsonb, text, text, timestamptz, integer, interval, jsonb, text, integer, text, text,
    text);
create function lockgate.start_run(
    workflow text, params jsonb default '{}', idempotency_key text default null, singleton_key text default null,
    start_at timestamptz default null, pace_per_s integer default null, deadline interval default null)
returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    started record;
begin
    if coalesce(workflow, '') = '' then
        raise exception 'start_run: workflow is empty; nothing was started' using hint = 'name a workflow';
    end if;
    select * into started from lockgate.try_start_new_run(lockgate.new_id(), workflow,
        convert_to(coalesce(params, '{}')::text, 'UTF8'), 'engine', singleton_key, idempotency_key, null, null,
        start_at, pace_per_s, deadline, null, null, null, session_user::text);
    if started.outcome = 'busy' then
        raise exception 'start_run: singleton key % is contended; nothing was started', singleton_key
            using errcode = 'lock_not_available', hint = 'try again';
    end if;
    return started.run_id;
end $$;
comment on function lockgate.start_run(text, jsonb, text, text, timestamptz, integer, interval) is
    'Starts a run of a workflow; the same idempotency key gives the same run; null when another run holds the singleton key';

do $$
declare
    role text;
begin
    revoke all on function lockgate.start_run(text, jsonb, text, text, timestamptz, integer, interval) from public;
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator', 'lockgate_sender') loop
        execute format('grant execute on function lockgate.start_run(text, jsonb, text, text, timestamptz, integer, interval)
            to %I', role);
    end loop;
end $$;
