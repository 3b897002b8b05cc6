-- Starts of many runs in one statement. The run's own row says who started it and when: nothing is written twice.
create function lockgate.start_runs(
    p_ids uuid[], p_workflow text, p_params bytea[], p_again boolean, p_queue text, p_priority smallint,
    p_start_at timestamptz, p_deadline interval, p_traceparent text, p_actor text) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    born timestamptz := clock_timestamp();
    due timestamptz := coalesce(p_start_at, born);
    who text := lockgate.acting_user(p_actor);
    started bigint;
begin
    -- A first request cannot meet its own rows, and looking for them would be all that it waits for.
    insert into lockgate.task_runs (id, workflow, queue, priority, status, driven_by, params, origin_id, wake_at, rank,
        deadline_at, traceparent, actor, created_at)
    select u.id, p_workflow, p_queue, p_priority, 'queued', 'engine', u.params, u.id, due,
           due - p_priority * interval '15 seconds', due + p_deadline, p_traceparent, who, born
      from unnest(p_ids, p_params) u (id, params)
     where not p_again or not exists (select from lockgate.task_runs r where r.id = u.id);
    get diagnostics started = row_count;
    -- One hint for all of them.
    perform pg_notify('lockgate_wake', 'run');
    return started;
end $$;
comment on function lockgate.start_runs(uuid[], text, bytea[], boolean, text, smallint, timestamptz, interval, text, text) is
    'Starts runs without keys under ids made by the caller; asked again (p_again) it starts those that are not there';

do $$
declare
    role text;
begin
    revoke all on function lockgate.start_runs(uuid[], text, bytea[], boolean, text, smallint, timestamptz, interval, text,
        text) from public;
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator') loop
        execute format('grant execute on function lockgate.start_runs(uuid[], text, bytea[], boolean, text, smallint,
            timestamptz, interval, text, text) to %I', role);
    end loop;
end $$;
