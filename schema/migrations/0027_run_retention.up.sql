-- Runs are deleted in sets, found by walking their ids: no index keeps the order in which they ended. People delete runs
-- early, and act on many at once.

create table lockgate.retention_cursor (
    what text primary key check (what in ('in_order', 'others')),
    after uuid not null default '00000000-0000-0000-0000-000000000000',
    lapped_at timestamptz not null default '-infinity'
);
comment on table lockgate.retention_cursor is 'Where retention is in its walk through the runs';
comment on column lockgate.retention_cursor.what is
    'in_order: ids that begin with the time of their making, up to the age at which runs go; others: ids behind all of those';
comment on column lockgate.retention_cursor.after is 'Last id looked at';
comment on column lockgate.retention_cursor.lapped_at is 'When it went back to the first id, to look again at what it had passed';
insert into lockgate.retention_cursor (what) values ('in_order'), ('others');

drop index lockgate.task_runs_finished;
comment on column lockgate.transitions.key is
    'Schedule name, id of an undelivered row or of a run that was deleted, or name of a lease';

create function lockgate.first_id_at(p_at timestamptz) returns uuid
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select (lpad(to_hex(greatest(floor(extract(epoch from p_at) * 1000), 0)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;
comment on function lockgate.first_id_at(timestamptz) is 'Before every id that begins with this time or a later one';

create function lockgate.prune_run_rows(p_run uuid, p_page integer) returns integer
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    gone integer;
begin
    delete from lockgate.undelivered_messages where (command_type, id) in
        (select command_type, id from lockgate.undelivered_messages where run_id = p_run limit p_page);
    get diagnostics gone = row_count;
    if gone > 0 then return gone; end if;
    delete from lockgate.run_batches where run_id = p_run and seq in
        (select seq from lockgate.run_batches where run_id = p_run limit p_page);
    get diagnostics gone = row_count;
    if gone > 0 then return gone; end if;
    delete from lockgate.transitions where ctid in
        (select ctid from lockgate.transitions where run_id = p_run limit p_page);
    get diagnostics gone = row_count;
    if gone > 0 then return gone; end if;
    delete from lockgate.run_steps where run_id = p_run and path in
        (select path from lockgate.run_steps where run_id = p_run limit p_page);
    get diagnostics gone = row_count;
    if gone > 0 then return gone; end if;
    delete from lockgate.signals where run_id = p_run and seq in
        (select seq from lockgate.signals where run_id = p_run limit p_page);
    get diagnostics gone = row_count;
    if gone > 0 then return gone; end if;
    delete from lockgate.task_runs where id = p_run;
    return 1;
end $$;
comment on function lockgate.prune_run_rows(uuid, integer) is
    'Deletes up to a page of rows of a run whose pruning has begun, the run itself last; answers how many';

create function lockgate.is_needed(p_run uuid) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    select exists (select from lockgate.run_batches b where b.run_id = p_run and b.status = 'claimed')
        -- They can be sent again, and the proof counts them.
        or exists (select from lockgate.undelivered_messages u
                    where u.run_id = p_run and u.status in ('due', 'refused', 'claimed', 'dead'))
        or exists (select from lockgate.task_runs r join lockgate.task_runs p on p.id = r.parent_id
                    where r.id = p_run and p.finished_at is null)
$$;
comment on function lockgate.is_needed(uuid) is
    'Whether a run that is over owes messages, has batches that are held, or was started by a run that is not over';

create function lockgate.prunable_runs(p_looked uuid[], p_older_than interval, p_rows bigint,
    out plain uuid[], out large uuid[], out looked bigint)
language sql stable set search_path = pg_catalog, pg_temp as $$
    with judged as (
        select l.id, l.at, s.n, not b.has and s.n <= 100 and r.claim_token <= 100 as is_plain
          from unnest(p_looked) with ordinality l (id, at)
          join lockgate.task_runs r on r.id = l.id
         cross join lateral (select exists (select from lockgate.run_batches x where x.run_id = r.id) as has) b
         cross join lateral (select count(*) as n from (select from lockgate.run_steps x where x.run_id = r.id limit 101) x) s
         where r.finished_at < (select clock_timestamp()) - p_older_than and r.pruning_since is null
           and not ((b.has or r.parent_id is not null) and lockgate.is_needed(r.id))
    ), summed as (
        select id, at, is_plain, sum(n + 2) over (order by at) - (n + 2) as before from judged
    ), cut as (
        -- So many rows at once, however many the runs have; the rest is looked at again.
        select coalesce(min(at) filter (where before > p_rows) - 1, cardinality(p_looked)) as at from summed
    )
    select coalesce(array_agg(s.id) filter (where s.is_plain), '{}'), coalesce(array_agg(s.id) filter (where not s.is_plain), '{}'),
           (select at from cut)
      from summed s where s.at <= (select at from cut)
$$;
comment on function lockgate.prunable_runs(uuid[], interval, bigint) is
    'Which of these runs are past their time and not needed: those that are deleted in a set, those with batches or many rows, and how many it looked at';

drop function lockgate.prune_runs(interval, integer);
create function lockgate.prune_runs(p_older_than interval, p_page integer, out pruned bigint, out more boolean)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    place record;
    begun uuid;
    looked uuid[];
    found_runs record;
    gone bigint;
begin
    pruned := 0;
    more := false;
    -- One at a time; whoever is second has nothing to do.
    perform from lockgate.retention_cursor c where c.what = 'in_order' for update skip locked;
    if not found then return; end if;
    -- A run with batches or many rows goes a page at a time, and one that was begun is ended, whatever its age.
    select r.id into begun from lockgate.task_runs r where r.pruning_since is not null limit 1 for update skip locked;
    if found then
        pruned := lockgate.prune_run_rows(begun, p_page);
        more := true;
        return;
    end if;
    for place in
        select c.what, c.after, c.lapped_at < clock_timestamp() - interval '10 minutes' as again, b.first, b.up_to
          from lockgate.retention_cursor c
         cross join lateral (
             select case c.what when 'in_order' then '00000000-0000-0000-0000-000000000000'::uuid
                                else lockgate.first_id_at(clock_timestamp() + interval '1 day') end as first,
                    case c.what when 'in_order' then lockgate.first_id_at(clock_timestamp() - p_older_than)
                                else 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid end as up_to) b
         order by c.what
    loop
        looked := array(select r.id from lockgate.task_runs r
                         where r.id > greatest(place.after, place.first) and r.id <= place.up_to
                         order by r.id limit p_page * 5);
        if cardinality(looked) > 0 then exit; end if;
        -- What was passed because it was not over, or is needed, is looked at again, though not at every pass.
        update lockgate.retention_cursor c set after = place.first, lapped_at = clock_timestamp()
         where c.what = place.what and place.again and c.after > place.first;
        more := more or found;
    end loop;
    if cardinality(looked) = 0 then return; end if;
    more := true;
    select * into found_runs from lockgate.prunable_runs(looked, p_older_than, p_page::bigint * 50);
    update lockgate.retention_cursor c set after = looked[found_runs.looked] where c.what = place.what;
    -- From now on: a proof made of what is left would be wrong.
    update lockgate.task_runs r set pruning_since = clock_timestamp() where r.id = any (found_runs.large);
    looked := array(select r.id from lockgate.task_runs r where r.id = any (found_runs.plain) order by r.id for update skip locked);
    delete from lockgate.signals s where s.run_id = any (looked);
    get diagnostics gone = row_count;
    pruned := pruned + gone;
    delete from lockgate.run_steps s where s.run_id = any (looked);
    get diagnostics gone = row_count;
    pruned := pruned + gone;
    delete from lockgate.transitions t where t.run_id = any (looked);
    get diagnostics gone = row_count;
    pruned := pruned + gone;
    delete from lockgate.task_runs r where r.id = any (looked);
    get diagnostics gone = row_count;
    pruned := pruned + gone;
    if pruned = 0 and cardinality(found_runs.large) > 0 then
        pruned := lockgate.prune_run_rows(found_runs.large[1], p_page);
    end if;
end $$;
comment on function lockgate.prune_runs(interval, integer) is
    'Deletes a set of runs that ended longer ago than that and are not needed, or a page of rows of one that has batches or many of them; answers how many rows are gone, and whether to ask again';

create function lockgate.delete_run(run uuid, reason text default null, actor text default null) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    was lockgate.task_runs;
begin
    select * into was from lockgate.task_runs r where r.id = run for update;
    if not found then return 'unknown'; end if;
    if was.finished_at is null then return was.status; end if;
    if was.pruning_since is null then
        if lockgate.is_needed(run) then return 'needed'; end if;
        update lockgate.task_runs r set pruning_since = clock_timestamp() where r.id = run;
        -- Of no run, so that it outlives it.
        insert into lockgate.transitions (entity, key, from_status, to_status, actor, reason)
        values ('run', run::text, was.status, 'deleted', lockgate.acting_user(delete_run.actor), delete_run.reason);
    end if;
    -- Retention takes the rest of one that is large.
    for page in 1 .. 10 loop
        perform lockgate.prune_run_rows(run, 1000);
        perform from lockgate.task_runs r where r.id = run;
        if not found then return 'deleted'; end if;
    end loop;
    return 'deleting';
end $$;
comment on function lockgate.delete_run(uuid, text, text) is
    'Deletes a run that is over with all that belongs to it; answers deleted, deleting (retention takes the rest), unknown, needed (it owes messages, or the run that started it is not over), or the state of one that is not over';

create function lockgate.check_run_filter(p_filter jsonb) returns void
language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
declare
    wrong text;
begin
    if jsonb_typeof(p_filter) is distinct from 'object' then
        raise exception 'the filter is not an object; nothing was changed' using errcode = 'invalid_parameter_value';
    end if;
    select f.key into wrong from jsonb_each(p_filter) f (key, value)
     where f.key <> all ('{workflow,status,queue,attributes,parent,schedule,tenant,since,until,all}')
        or jsonb_typeof(f.value) <> case f.key when 'attributes' then 'object' when 'all' then 'boolean' else 'string' end
     limit 1;
    if found then
        raise exception 'the filter has an unknown or wrong part: %; nothing was changed', wrong
            using errcode = 'invalid_parameter_value',
                  hint = 'it has workflow, status, queue, attributes, parent, schedule, tenant, since, until, or all: true';
    end if;
    if p_filter - 'all' = '{}' or p_filter -> 'attributes' = '{}' and p_filter - 'all' - 'attributes' = '{}' then
        if p_filter -> 'all' is distinct from 'true' then
            raise exception 'the filter matches every run; nothing was changed' using errcode = 'invalid_parameter_value',
                hint = 'say so with all: true, or narrow it';
        end if;
    end if;
end $$;
comment on function lockgate.check_run_filter(jsonb) is
    'Refuses a filter of runs that says what there is not, or nothing without saying that it means all';

create function lockgate.find_runs(p_act text, p_filter jsonb, p_after uuid, p_limit integer)
returns table (id uuid, workflow text, status text)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    of_workflow text := p_filter ->> 'workflow';
    of_status text := p_filter ->> 'status';
    of_queue text := p_filter ->> 'queue';
    of_tenant text := p_filter ->> 'tenant';
    of_schedule text := p_filter ->> 'schedule';
    of_parent uuid := p_filter ->> 'parent';
    since timestamptz := p_filter ->> 'since';
    until timestamptz := p_filter ->> 'until';
    having_attributes jsonb := nullif(p_filter -> 'attributes', '{}');
begin
    if p_act in ('cancel', 'pause', 'resume') then
        -- However many are over: each that is not is in one of three partial indexes, as in list_unfinished_runs.
        return query
        select r.id, r.workflow, r.status from lockgate.task_runs r
         where (p_after is null or r.id > p_after)
           and (r.claim_id is not null
                or (r.wake_at is not null and r.claim_id is null and r.status in ('queued', 'running', 'suspended'))
                or (r.claim_id is null and r.finished_at is null and (r.wake_at is null or r.status in ('paused', 'quarantined'))))
           and case p_act when 'cancel' then r.stop_status is null
                          when 'pause' then r.stop_status is null and r.status in ('queued', 'running', 'suspended')
                          else r.status in ('paused', 'quarantined') end
           and (of_workflow is null or r.workflow = of_workflow) and (of_status is null or r.status = of_status)
           and (of_queue is null or coalesce(r.queue, r.workflow) = of_queue) and (of_tenant is null or r.tenant = of_tenant)
           and (of_schedule is null or r.schedule = of_schedule) and (of_parent is null or r.parent_id = of_parent)
           and (since is null or r.created_at >= since) and (until is null or r.created_at < until)
           and (having_attributes is null or r.attributes @> having_attributes)
         order by r.id limit p_limit;
        return;
    end if;
    return query
    select r.id, r.workflow, r.status from lockgate.task_runs r
     where (p_after is null or r.id > p_after) and r.finished_at is not null and r.pruning_since is null
       -- A run that was done again is not done again with the others.
       and (p_act = 'delete' or (r.status in ('failed', 'cancelled') and r.driven_by = 'engine'
            and not exists (select from lockgate.task_runs f where f.forked_from = r.id)))
       and (of_workflow is null or r.workflow = of_workflow) and (of_status is null or r.status = of_status)
       and (of_queue is null or coalesce(r.queue, r.workflow) = of_queue) and (of_tenant is null or r.tenant = of_tenant)
       and (of_schedule is null or r.schedule = of_schedule) and (of_parent is null or r.parent_id = of_parent)
       and (since is null or r.created_at >= since) and (until is null or r.created_at < until)
       and (having_attributes is null or r.attributes @> having_attributes)
     order by r.id limit p_limit;
end $$;
comment on function lockgate.find_runs(text, jsonb, uuid, integer) is
    'Runs behind an id, in order of ids, that fit a filter and are in a state in which the act does something';

create function lockgate.act_on_run(p_act text, p_run uuid, p_reason text, p_actor text) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    return case p_act
        -- Their children the sweep stops: a page holds no more locks than it has runs.
        when 'cancel' then lockgate.request_stop(lockgate.last_run(p_run), 'cancelled',
            coalesce(p_reason, 'cancelled by an operator'), lockgate.acting_user(p_actor))
        when 'pause' then lockgate.pause_run(p_run, coalesce(p_reason, 'paused by an operator'), p_actor)
        when 'resume' then lockgate.resume_run(p_run, p_actor)
        when 'delete' then lockgate.delete_run(p_run, p_reason, p_actor)
        when 'retry' then (select case a.outcome when 'new' then 'retried' else a.outcome end
            from lockgate.repeat_run(lockgate.new_id(), p_run, 'retry', null, null, true, p_reason, p_actor) a) end;
end $$;
comment on function lockgate.act_on_run(text, uuid, text, text) is 'Does one act to one run; answers what the act''s own function does';

create function lockgate.act_on_runs(act text, filter jsonb, reason text default null, actor text default null,
    dry_run boolean default false, at_most integer default 500, after uuid default null,
    out matched bigint, out acted bigint, out next uuid, out sample jsonb)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
    planned text := current_setting('plan_cache_mode');
    page integer := least(greatest(at_most, 1), 500);
    found record;
    state text;
begin
    if act is null or act not in ('cancel', 'pause', 'resume', 'delete', 'retry') then
        raise exception 'act_on_runs: runs cannot be %; nothing was changed', coalesce(act, 'null')
            using errcode = 'invalid_parameter_value', hint = 'cancel, pause, resume, delete or retry';
    end if;
    perform lockgate.check_run_filter(filter);
    matched := 0;
    acted := 0;
    sample := '[]';
    -- What the filter does not say costs nothing in a plan that is made for it.
    perform set_config('plan_cache_mode', 'force_custom_plan', true);
    if dry_run then
        select count(*), coalesce(jsonb_agg(jsonb_build_object('run_id', f.id, 'workflow', f.workflow, 'status', f.status)
                                            order by f.at) filter (where f.at <= 10), '[]')
          into matched, sample
          from (select *, row_number() over (order by r.id) as at from lockgate.find_runs(act, filter, after, 100000) r) f;
        perform set_config('plan_cache_mode', planned, true);
        return;
    end if;
    for found in select * from lockgate.find_runs(act, filter, after, page) loop
        state := lockgate.act_on_run(act, found.id, reason, actor);
        matched := matched + 1;
        next := found.id;
        if state = any (case act when 'cancel' then '{cancelled,stopping}'::text[] when 'pause' then '{paused}'
                                 when 'resume' then '{queued,running,suspended}' when 'delete' then '{deleted,deleting}'
                                 else '{retried}' end) then
            acted := acted + 1;
        end if;
        if matched <= 10 then
            sample := sample || jsonb_build_object('run_id', found.id, 'workflow', found.workflow, 'status', state);
        end if;
    end loop;
    if matched < page then next := null; end if;
    perform set_config('plan_cache_mode', planned, true);
end $$;
comment on function lockgate.act_on_runs(text, jsonb, text, text, boolean, integer, uuid) is
    'Cancels, pauses, resumes, deletes or retries a page of at most 500 runs that fit a filter; next: ask again with it as after; dry_run: only counts them, up to 100,000';

do $$
declare
    role text;
begin
    revoke all on lockgate.retention_cursor from public;
    execute (select string_agg(format('revoke all on function %s from public', p.oid::regprocedure), ';')
               from pg_proc p where p.pronamespace = 'lockgate'::regnamespace and p.proname in ('first_id_at', 'prune_run_rows',
                    'is_needed', 'prunable_runs', 'prune_runs', 'delete_run', 'check_run_filter', 'find_runs', 'act_on_run',
                    'act_on_runs'));
    if exists (select 1 from pg_roles where rolname = 'lockgate_reader') then
        grant select (pruning_since) on lockgate.task_runs to lockgate_reader;
    end if;
    if exists (select 1 from pg_roles where rolname = 'lockgate_engine') then
        grant execute on function lockgate.prune_runs(interval, integer) to lockgate_engine;
    end if;
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator') loop
        execute format('grant execute on function lockgate.delete_run(uuid, text, text),
            lockgate.act_on_runs(text, jsonb, text, text, boolean, integer, uuid) to %I', role);
    end loop;
end $$;
