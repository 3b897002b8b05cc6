-- What people and other languages call. Every function is usable inside the caller's transaction.
create function lockgate.new_id() returns uuid
language sql volatile set search_path = pg_catalog, pg_temp as $$
    -- UUIDv7: 48 bits of milliseconds, version, then random bits of a version 4 UUID.
    select encode(
        set_byte(
            substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
                || substring(uuid_send(gen_random_uuid()) from 7),
            6, (get_byte(uuid_send(gen_random_uuid()), 6) & 15) | 112),
        'hex')::uuid
$$;
comment on function lockgate.new_id() is 'A new UUIDv7';

create function lockgate.decode_ids(base bigint, packed bytea) returns setof bigint
language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
declare
    size integer := coalesce(octet_length(packed), 0);
    at integer := 1;
    mode integer;
    value bigint;
    shift integer;
    byte integer;
    is_gap boolean := true;
    next_id bigint := base;
begin
    if size = 0 then return; end if;
    mode := get_byte(packed, 0);
    if mode not in (1, 2) then raise exception 'packed ids of unknown form %', mode; end if;
    while at < size loop
        value := 0;
        shift := 0;
        loop
            byte := get_byte(packed, at);
            at := at + 1;
            value := value | ((byte & 127)::bigint << shift);
            exit when byte < 128;
            shift := shift + 7;
        end loop;
        if mode = 2 and not is_gap then
            return query select generate_series(next_id, next_id + (value - 1));
            is_gap := true;
            -- The neighbours may end at the largest id; nothing follows them then.
            exit when at >= size;
            next_id := next_id + value;
            continue;
        end if;
        -- Ids from both ends of the range differ by more than a bigint holds; where they lead still is one.
        if value >= 0 then
            next_id := next_id + value;
        else
            next_id := (next_id::numeric + value + 18446744073709551616)::bigint;
        end if;
        if mode = 1 then
            return next next_id;
        else
            is_gap := false;
        end if;
    end loop;
end $$;
comment on function lockgate.decode_ids(bigint, bytea) is
    'Expands packed ids relative to a base. Form 1: differences; form 2: pairs of gap and length of a run of neighbours; each number in base 128, least first, high bit set when more follows';

create function lockgate.batch_items(p_run uuid) returns table (batch_seq integer, item_id bigint)
language sql stable set search_path = pg_catalog, pg_temp as $$
    select b.seq, x.id
      from lockgate.run_batches b
      left join lockgate.run_batch_ids i on i.run_id = b.run_id and i.seq = b.seq
      cross join lateral (
          select g as id from generate_series(b.first_id, b.last_id) g where i.ids is null
          union all
          select d from lockgate.decode_ids(b.first_id, i.ids) d where i.ids is not null) x
     where b.run_id = p_run and b.status <> 'split'
$$;
comment on function lockgate.batch_items(uuid) is 'Every item of a run with its batch, whatever form the ids are stored in';

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
