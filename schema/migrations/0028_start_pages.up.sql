-- Starts of many runs in one statement, and of one with all that a run can be started with.
drop function lockgate.start_by_hand(uuid, text, bytea, text, text, timestamptz, integer, interval, text, text);
drop function lockgate.try_start_new_run(uuid, text, bytea, text, text, text, text, timestamptz, timestamptz,
    integer, interval, uuid, text, bigint, text);

create function lockgate.try_start_new_run(
    p_id uuid, p_workflow text, p_params bytea, p_driven_by text, p_singleton_key text, p_idempotency_key text,
    p_schedule text, p_slot timestamptz, p_wake_at timestamptz, p_pace_per_s integer, p_deadline interval,
    p_origin_id uuid, p_traceparent text, p_leader_term bigint, p_actor text,
    p_queue text default null, p_priority smallint default null,
    p_tenant text default null, p_limit_key text default null, p_debounce_key text default null,
    p_attributes jsonb default null, p_parent_id uuid default null, p_parent_path text default null,
    p_depth smallint default null, p_seed_id uuid default null, p_forked_from uuid default null,
    p_rings boolean default true,
    out outcome text, out run_id uuid)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    born timestamptz := clock_timestamp();
    due timestamptz := coalesce(p_wake_at, born);
    first_status text := case p_driven_by when 'caller' then 'running' else 'queued' end;
    waiting_status text;
    wrong text := case
        when p_priority not between 0 and 20 then 'priority ' || p_priority || ' is not from 0 to 20'
        when '' in (p_queue, p_tenant, p_limit_key, p_debounce_key) then 'a queue, tenant or key is empty'
        when greatest(length(p_queue), length(p_tenant), length(p_limit_key), length(p_debounce_key)) > 200
            then 'a queue, tenant or key has more than 200 characters'
    end;
begin
    if wrong is not null then
        raise exception '%; nothing was started', wrong using errcode = 'invalid_parameter_value';
    end if;
    select r.id into run_id from lockgate.task_runs r
     where r.id = p_id -- the same request again, its first answer was lost
        or (p_idempotency_key is not null and r.workflow = p_workflow and r.idempotency_key = p_idempotency_key)
        or (p_slot is not null and r.schedule = p_schedule and r.slot = p_slot)
     limit 1;
    if found then outcome := 'found'; return; end if;
    if p_debounce_key is not null then
        -- One that a replica claims this moment is waited for: it has the key no more when it is claimed.
        update lockgate.task_runs r
           set params = coalesce(p_params, '{}'), wake_at = due, rank = due - r.priority * interval '15 seconds',
               deadline_at = due + p_deadline
         where r.workflow = p_workflow and r.debounce_key = p_debounce_key and r.status in ('queued', 'paused')
           and r.claim_id is null and r.stop_status is null
        returning r.id, r.status into run_id, waiting_status;
        if found then
            insert into lockgate.transitions (entity, run_id, from_status, to_status, actor, reason)
            values ('run', run_id, waiting_status, waiting_status, coalesce(p_actor, session_user), 'debounced');
            if p_rings then perform pg_notify('lockgate_wake', 'run'); end if;
            outcome := 'debounced';
            return;
        end if;
    end if;
    -- The lock only sends contenders away at once; the unique index below is the promise.
    if p_singleton_key is not null and not pg_try_advisory_xact_lock(hashtextextended(p_singleton_key, 0)) then
        outcome := 'busy'; return;
    end if;
    insert into lockgate.task_runs (id, workflow, status, driven_by, params, origin_id, singleton_key, idempotency_key,
        schedule, slot, wake_at, rank, pace_per_s, deadline_at, traceparent, leader_term, actor, created_at, started_at,
        queue, priority, tenant, limit_key, debounce_key, attributes, parent_id, parent_path, depth, seed_id, forked_from)
    values (p_id, p_workflow, first_status, p_driven_by, coalesce(p_params, '{}'), coalesce(p_origin_id, p_id),
        p_singleton_key, p_idempotency_key, p_schedule, p_slot, case p_driven_by when 'engine' then due end,
        case p_driven_by when 'engine' then due - p_priority * interval '15 seconds' end, p_pace_per_s, due + p_deadline,
        p_traceparent, p_leader_term, coalesce(p_actor, session_user), born, case p_driven_by when 'caller' then born end,
        p_queue, p_priority, p_tenant, p_limit_key, p_debounce_key, p_attributes, p_parent_id, p_parent_path, p_depth,
        p_seed_id, p_forked_from)
    on conflict do nothing
    returning id into run_id;
    if found then
        insert into lockgate.transitions (entity, run_id, to_status, term, actor)
        values ('run', run_id, first_status, p_leader_term, coalesce(p_actor, session_user));
        if p_rings and p_driven_by = 'engine' then perform pg_notify('lockgate_wake', 'run'); end if;
        outcome := 'new';
        return;
    end if;
    select r.id into run_id from lockgate.task_runs r
     where r.id = p_id
        or (p_idempotency_key is not null and r.workflow = p_workflow and r.idempotency_key = p_idempotency_key)
        or (p_slot is not null and r.schedule = p_schedule and r.slot = p_slot)
     limit 1;
    -- Under a debounce key somebody else was faster this moment: who asks again replaces that.
    outcome := case when found then 'found' when p_debounce_key is not null then 'busy' else 'held' end;
end $$;
comment on function lockgate.try_start_new_run(uuid, text, bytea, text, text, text, text, timestamptz, timestamptz,
    integer, interval, uuid, text, bigint, text, text, smallint, text, text, text, jsonb, uuid, text, smallint, uuid, uuid,
    boolean) is
    'Starts a run unless its key or slot has one (found), one waits under its debounce key, which gets its input and time (debounced), or a key is taken (held) or contended (busy); rings the replicas unless told that the caller does (p_rings)';

create function lockgate.start_by_hand(
    p_id uuid, p_workflow text, p_params bytea, p_singleton_key text default null, p_idempotency_key text default null,
    p_start_at timestamptz default null, p_pace_per_s integer default null, p_deadline interval default null,
    p_traceparent text default null, p_actor text default null, p_queue text default null, p_priority smallint default null,
    p_tenant text default null, p_limit_key text default null, p_debounce_key text default null,
    p_attributes jsonb default null, p_parent_id uuid default null, p_parent_path text default null,
    p_depth smallint default null, p_origin_id uuid default null, p_seed_id uuid default null,
    p_forked_from uuid default null, p_rings boolean default true,
    out outcome text, out run_id uuid)
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    select s.outcome, s.run_id
      from lockgate.try_start_new_run(
          p_id => p_id, p_workflow => p_workflow, p_params => p_params, p_driven_by => 'engine',
          p_singleton_key => p_singleton_key, p_idempotency_key => p_idempotency_key, p_schedule => null, p_slot => null,
          p_wake_at => p_start_at, p_pace_per_s => p_pace_per_s, p_deadline => p_deadline, p_origin_id => p_origin_id,
          p_traceparent => p_traceparent, p_leader_term => null, p_actor => lockgate.acting_user(p_actor),
          p_queue => p_queue, p_priority => p_priority, p_tenant => p_tenant, p_limit_key => p_limit_key,
          p_debounce_key => p_debounce_key, p_attributes => p_attributes, p_parent_id => p_parent_id,
          p_parent_path => p_parent_path, p_depth => p_depth, p_seed_id => p_seed_id, p_forked_from => p_forked_from,
          p_rings => p_rings) s
$$;
comment on function lockgate.start_by_hand(uuid, text, bytea, text, text, timestamptz, integer, interval, text, text, text, smallint, text,
    text, text, jsonb, uuid, text, smallint, uuid, uuid, uuid, boolean) is
    'Starts a run under an id made by the caller, so that asking again is safe; answers new, found, debounced, held or busy';

create function lockgate.start_runs(
    p_ids uuid[], p_workflows text[], p_params bytea[], p_again boolean default false, p_queues text[] default '{}',
    p_priorities smallint[] default '{}', p_tenants text[] default '{}', p_limit_keys text[] default '{}',
    p_attributes jsonb[] default '{}', p_parent_ids uuid[] default '{}', p_parent_paths text[] default '{}',
    p_depths smallint[] default '{}', p_origin_ids uuid[] default '{}', p_seed_ids uuid[] default '{}',
    p_forked_from uuid[] default '{}', p_start_at timestamptz[] default '{}', p_deadlines_s double precision[] default '{}',
    p_paces integer[] default '{}', p_traceparents text[] default '{}', p_actors text[] default '{}') returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    born timestamptz := clock_timestamp();
    nobody text := lockgate.acting_user(null);
    started bigint;
begin
    -- What no run of the page has is an empty array, which costs nothing. The rows say who started them and when: nothing
    -- is written twice, and nobody is rung here, which would make commits wait for each other.
    insert into lockgate.task_runs (id, workflow, status, params, queue, priority, tenant, limit_key, attributes, parent_id,
        parent_path, depth, origin_id, seed_id, forked_from, wake_at, rank, deadline_at, pace_per_s, traceparent, actor,
        created_at)
    select u.id, u.workflow, 'queued', u.params, u.queue, u.priority, u.tenant, u.limit_key, u.attributes, u.parent_id,
           u.parent_path, u.depth, coalesce(u.origin_id, u.id), u.seed_id, u.forked_from, t.due,
           t.due - u.priority * interval '15 seconds', t.due + make_interval(secs => u.deadline_s), u.pace_per_s,
           u.traceparent, case when u.actor is null then nobody else lockgate.acting_user(u.actor) end, born
      from unnest(p_ids, p_workflows, p_params, p_queues, p_priorities, p_tenants, p_limit_keys, p_attributes, p_parent_ids,
                  p_parent_paths, p_depths, p_origin_ids, p_seed_ids, p_forked_from, p_start_at, p_deadlines_s, p_paces,
                  p_traceparents, p_actors)
           u (id, workflow, params, queue, priority, tenant, limit_key, attributes, parent_id, parent_path, depth, origin_id,
              seed_id, forked_from, start_at, deadline_s, pace_per_s, traceparent, actor)
     cross join lateral (select coalesce(u.start_at, born) as due) t
     -- A first request cannot meet its own rows, and looking for them would be all that it waits for.
     where not p_again or not exists (select from lockgate.task_runs r where r.id = u.id);
    get diagnostics started = row_count;
    return started;
end $$;
comment on function lockgate.start_runs(uuid[], text[], bytea[], boolean, text[], smallint[], text[], text[], jsonb[], uuid[], text[],
    smallint[], uuid[], uuid[], uuid[], timestamptz[], double precision[], integer[], text[], text[]) is
    'Starts runs without keys under ids made by the caller; asked again (p_again) it starts those that are not there; the caller rings the replicas';

do $$
declare
    role text;
    starts regprocedure;
begin
    for starts in select p.oid::regprocedure from pg_proc p
                   where p.pronamespace = 'lockgate'::regnamespace
                     and p.proname in ('start_runs', 'start_by_hand', 'try_start_new_run') loop
        execute format('revoke all on function %s from public', starts);
        for role in select rolname from pg_roles
                     where rolname = 'lockgate_engine'
                        or (rolname = 'lockgate_operator' and starts::text not like '%try_start_new_run%') loop
            execute format('grant execute on function %s to %I', starts, role);
        end loop;
    end loop;
end $$;
