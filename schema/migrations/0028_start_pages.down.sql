drop function lockgate.start_runs(uuid[], text[], bytea[], boolean, text[], smallint[], text[], text[], jsonb[], uuid[], text[],
    smallint[], uuid[], uuid[], uuid[], timestamptz[], double precision[], integer[], text[], text[]);
drop function lockgate.start_by_hand(uuid, text, bytea, text, text, timestamptz, integer, interval, text, text, text, smallint, text,
    text, text, jsonb, uuid, text, smallint, uuid, uuid, uuid, boolean);
drop function lockgate.try_start_new_run(uuid, text, bytea, text, text, text, text, timestamptz, timestamptz,
    integer, interval, uuid, text, bigint, text, text, smallint, text, text, text, jsonb, uuid, text, smallint, uuid, uuid,
    boolean);

create function lockgate.try_start_new_run(
    p_id uuid, p_workflow text, p_params bytea, p_driven_by text, p_singleton_key text, p_idempotency_key text,
    p_schedule text, p_slot timestamptz, p_wake_at timestamptz, p_pace_per_s integer, p_deadline interval,
    p_origin_id uuid, p_traceparent text, p_leader_term bigint, p_actor text,
    out outcome text, out run_id uuid)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    born timestamptz := clock_timestamp();
    first_status text := case p_driven_by when 'caller' then 'running' else 'queued' end;
begin
    select r.id into run_id from lockgate.task_runs r
     where r.id = p_id -- the same request again, its first answer was lost
        or (p_idempotency_key is not null and r.workflow = p_workflow and r.idempotency_key = p_idempotency_key)
        or (p_slot is not null and r.schedule = p_schedule and r.slot = p_slot)
     limit 1;
    if found then outcome := 'found'; return; end if;
    -- The lock only sends contenders away at once; the unique index below is the promise.
    if p_singleton_key is not null and not pg_try_advisory_xact_lock(hashtextextended(p_singleton_key, 0)) then
        outcome := 'busy'; return;
    end if;
    insert into lockgate.task_runs (id, workflow, status, driven_by, params, origin_id, singleton_key, idempotency_key,
        schedule, slot, wake_at, pace_per_s, deadline_at, traceparent, leader_term, actor, created_at, started_at)
    values (p_id, p_workflow, first_status, p_driven_by, coalesce(p_params, '{}'), coalesce(p_origin_id, p_id),
        p_singleton_key, p_idempotency_key, p_schedule, p_slot,
        case p_driven_by when 'engine' then coalesce(p_wake_at, born) end, p_pace_per_s,
        coalesce(p_wake_at, born) + p_deadline, p_traceparent, p_leader_term, coalesce(p_actor, session_user), born,
        case p_driven_by when 'caller' then born end)
    on conflict do nothing
    returning id into run_id;
    if found then
        insert into lockgate.transitions (entity, run_id, to_status, term, actor)
        values ('run', run_id, first_status, p_leader_term, coalesce(p_actor, session_user));
        if p_driven_by = 'engine' then perform pg_notify('lockgate_wake', 'run'); end if;
        outcome := 'new';
        return;
    end if;
    select r.id into run_id from lockgate.task_runs r
     where r.id = p_id
        or (p_idempotency_key is not null and r.workflow = p_workflow and r.idempotency_key = p_idempotency_key)
        or (p_slot is not null and r.schedule = p_schedule and r.slot = p_slot)
     limit 1;
    outcome := case when found then 'found' else 'held' end;
end $$;
comment on function lockgate.try_start_new_run(uuid, text, bytea, text, text, text, text, timestamptz, timestamptz,
    integer, interval, uuid, text, bigint, text) is
    'Starts a run unless its key or slot has one (found) or its singleton key is taken (held) or contended (busy)';

create function lockgate.start_by_hand(
    p_id uuid, p_workflow text, p_params bytea, p_singleton_key text, p_idempotency_key text, p_start_at timestamptz,
    p_pace_per_s integer, p_deadline interval, p_traceparent text, p_actor text,
    out outcome text, out run_id uuid)
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    select s.outcome, s.run_id
      from lockgate.try_start_new_run(
          p_id => p_id, p_workflow => p_workflow, p_params => p_params, p_driven_by => 'engine',
          p_singleton_key => p_singleton_key, p_idempotency_key => p_idempotency_key, p_schedule => null, p_slot => null,
          p_wake_at => p_start_at, p_pace_per_s => p_pace_per_s, p_deadline => p_deadline, p_origin_id => null,
          p_traceparent => p_traceparent, p_leader_term => null, p_actor => lockgate.acting_user(p_actor)) s
$$;
comment on function lockgate.start_by_hand(uuid, text, bytea, text, text, timestamptz, integer, interval, text, text) is
    'Starts a run under an id made by the caller, so that asking again is safe; answers new, found, held or busy';

do $$
declare
    role text;
begin
    revoke all on function lockgate.start_by_hand(uuid, text, bytea, text, text, timestamptz, integer, interval, text, text)
        from public;
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator') loop
        execute format('grant execute on function lockgate.start_by_hand(uuid, text, bytea, text, text, timestamptz,
            integer, interval, text, text) to %I', role);
    end loop;
end $$;

do $$ begin
    revoke all on function lockgate.try_start_new_run(uuid, text, bytea, text, text, text, text, timestamptz, timestamptz,
        integer, interval, uuid, text, bigint, text) from public;
    if exists (select 1 from pg_roles where rolname = 'lockgate_engine') then
        grant execute on function lockgate.try_start_new_run(uuid, text, bytea, text, text, text, text, timestamptz,
            timestamptz, integer, interval, uuid, text, bigint, text) to lockgate_engine;
    end if;
end $$;
