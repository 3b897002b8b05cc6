-- What people ask is bounded whatever there is: lists, acts on many and timelines look at so many rows a time and say where
-- they stopped. Values go only to those who may read them, and a queue that was paused before it was set is set all the same.

alter table lockgate.queues add column is_set boolean not null default true;
comment on column lockgate.queues.is_set is
    'Its settings were set, by code or by somebody; false: it was only paused, and what code declares for it counts';
update lockgate.queues q set is_set = false
 where num_nonnulls(q.max_running, q.max_per_key, q.rate_per_s, q.max_attempt) = 0 and not q.fair and q.holds = 'code'
   and not exists (select from lockgate.transitions t where t.entity = 'queue' and t.key = q.name and t.to_status = 'set');

create or replace function lockgate.set_queue(
    name text, max_running integer default null, max_per_key integer default null, rate_per_s double precision default null,
    burst integer default null, fair boolean default false, holds text default 'code', max_attempt interval default null,
    reason text default null, actor text default null, only_new boolean default false)
returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    who text := lockgate.acting_user(set_queue.actor);
    -- A rate out of range is refused below, before it is used.
    wanted_burst integer := case when set_queue.rate_per_s > 0 and set_queue.rate_per_s <= 1000000
        then coalesce(set_queue.burst, greatest(1, ceil(set_queue.rate_per_s))::integer) end;
    was lockgate.queues;
    left_over double precision;
    what text := concat_ws(', ', 'max_running ' || set_queue.max_running, 'max_per_key ' || set_queue.max_per_key,
        'rate_per_s ' || set_queue.rate_per_s, 'burst ' || wanted_burst, case when set_queue.fair then 'fair' end,
        'holds ' || set_queue.holds, 'max_attempt ' || set_queue.max_attempt);
    how text := null;
begin
    if coalesce(set_queue.name, '') = '' or length(set_queue.name) > 200 then
        how := 'a name has 1 to 200 characters';
    elsif set_queue.max_running < 1 or set_queue.max_per_key < 1 then
        how := 'a limit is at least 1; pause_queue keeps everything back';
    elsif set_queue.max_per_key > set_queue.max_running then
        how := 'max_per_key ' || set_queue.max_per_key || ' is above max_running ' || set_queue.max_running || ' and could never be reached';
    elsif not (set_queue.rate_per_s > 0 and set_queue.rate_per_s <= 1000000) then
        how := 'rate_per_s is above 0 and at most 1000000';
    elsif set_queue.burst is not null and set_queue.rate_per_s is null then
        how := 'a burst without a rate_per_s limits nothing';
    elsif set_queue.burst not between 1 and 1000000 then
        how := 'burst is from 1 to 1000000';
    elsif coalesce(set_queue.holds not in ('code', 'run'), true) or set_queue.fair is null then
        how := 'holds is code or run, fair is true or false';
    elsif not (set_queue.max_attempt between interval '1 second' and interval '1000 days') then
        how := 'max_attempt is from a second to 1000 days';
    end if;
    if how is not null then
        raise exception 'set_queue: %; nothing was changed', how using errcode = 'invalid_parameter_value';
    end if;
    select * into was from lockgate.queues q where q.name = set_queue.name for no key update;
    if was.is_set and only_new then return 'known'; end if;
    if was.is_set and (was.max_running, was.max_per_key, was.rate_per_s, was.burst, was.fair, was.holds, was.max_attempt)
        is not distinct from (set_queue.max_running, set_queue.max_per_key, set_queue.rate_per_s, wanted_burst,
                              set_queue.fair, set_queue.holds, set_queue.max_attempt) then
        return 'same';
    end if;
    -- What was saved up stays; a rate that is new begins with a whole burst.
    left_over := case when wanted_burst is not null then least(wanted_burst, coalesce(least(was.burst,
        was.tokens + was.rate_per_s * extract(epoch from clock_timestamp() - was.refilled_at)), wanted_burst)) end;
    insert into lockgate.queues as q (name, max_running, max_per_key, rate_per_s, burst, tokens, refilled_at, fair, holds,
        max_attempt, actor, is_set)
    values (set_queue.name, set_queue.max_running, set_queue.max_per_key, set_queue.rate_per_s, wanted_burst, left_over,
        case when wanted_burst is not null then clock_timestamp() end, set_queue.fair, set_queue.holds,
        set_queue.max_attempt, who, true)
    on conflict (name) do update
       set max_running = excluded.max_running, max_per_key = excluded.max_per_key, rate_per_s = excluded.rate_per_s,
           burst = excluded.burst, tokens = excluded.tokens, refilled_at = excluded.refilled_at, fair = excluded.fair,
           holds = excluded.holds, max_attempt = excluded.max_attempt, actor = excluded.actor,
           is_set = true, updated_at = clock_timestamp()
     where not only_new or not q.is_set;
    if not found then return 'known'; end if;
    insert into lockgate.transitions (entity, key, from_status, to_status, actor, reason)
    values ('queue', set_queue.name, case when was.is_set then 'set' end, 'set', who,
        concat_ws(': ', set_queue.reason, what));
    perform lockgate.hold_places(set_queue.name);
    perform pg_notify('lockgate_wake', 'queue');
    return case when was.is_set then 'changed' else 'new' end;
end $$;

create or replace function lockgate.pause_queue(name text, reason text default 'paused by an operator', actor text default null)
returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    who text := lockgate.acting_user(pause_queue.actor);
begin
    if coalesce(pause_queue.name, '') = '' or length(pause_queue.name) > 200 then
        raise exception 'pause_queue: a name has 1 to 200 characters; nothing was changed'
            using errcode = 'invalid_parameter_value';
    end if;
    insert into lockgate.queues as q (name, actor, paused_at, paused_by, pause_reason, is_set)
    values (pause_queue.name, who, clock_timestamp(), who, pause_queue.reason, false)
    on conflict (name) do update
       set paused_at = excluded.paused_at, paused_by = excluded.paused_by, pause_reason = excluded.pause_reason
     where q.paused_at is null;
    if not found then return 'paused'; end if;
    insert into lockgate.transitions (entity, key, from_status, to_status, actor, reason)
    values ('queue', pause_queue.name, 'active', 'paused', who, pause_queue.reason);
    perform pg_notify('lockgate_wake', 'queue');
    return 'paused';
end $$;

create or replace function lockgate.run_timeline(run uuid, after text default null, page integer default 500, with_values boolean default false)
returns table (cursor text, at timestamptz, what text, name text, kind text, status text, ended_at timestamptz,
    due_at timestamptz, waits_for text, tries integer, size integer, value text, other_run uuid, token bigint, replica uuid,
    actor text, reason text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    -- Of each of steps, audit rows, signals and forks so many are looked at: they have no index by time.
    most constant integer := 100000;
    tells constant boolean := with_values and has_column_privilege(session_user, 'lockgate.signals', 'payload', 'select');
    after_at timestamptz := timestamptz 'epoch' + split_part(after, '|', 1)::bigint * interval '1 microsecond';
    after_key text := substring(after from position('|' in after) + 1);
begin
    -- As the owner, and so only to those who may read what steps returned.
    if with_values and not has_column_privilege(session_user, 'lockgate.run_steps', 'result', 'select') then
        raise exception 'run_timeline: % may not read results', session_user using errcode = 'insufficient_privilege';
    end if;
    return query
    select (extract(epoch from p.at) * 1000000)::bigint || '|' || p.key, p.at, p.what, p.name, p.kind, p.status, p.ended_at, p.due_at,
           p.waits_for, p.tries, p.size,
           -- Only those of the page are read.
           case when p.what = 'step' and with_values then
                     (select convert_from(s.result, 'UTF8') from lockgate.run_steps s where s.run_id = run and s.path = p.name)
                when p.what = 'signal' and tells then
                     (select convert_from(g.payload, 'UTF8') from lockgate.signals g where g.run_id = run and g.seq = p.token) end,
           case when p.kind = 'child' then
                     (select c.id from lockgate.task_runs c
                       where c.parent_id = run and c.parent_path = p.name and c.continued_as is null limit 1)
                else p.other_run end,
           case when p.what <> 'signal' then p.token end, p.replica, p.actor, p.reason
      from (
     select x.*
      from (
        select s.started_at as at, 'step ' || s.path as key, 'step' as what, s.path as name, s.kind, s.status,
               s.finished_at as ended_at, s.due_at,
               case when s.status = 'open' then case s.kind when 'sleep' then 'its time' when 'fan_out' then 'its batches'
                   when 'child' then 'the run it started' when 'signal' then 'signal ' || substring(s.path from '[^:]*$')
                   else 'its next try' end end as waits_for,
               coalesce(s.attempts, 0) + case when s.status = 'completed' then 1 else 0 end as tries,
               octet_length(s.result) as size, null::uuid as other_run, s.claim_token as token, null::uuid as replica,
               null as actor, null as reason
          from (select * from lockgate.run_steps s where s.run_id = run order by s.path limit most) s
        union all
        select coalesce(t.since, t.at), case when t.since is null then 'change ' else 'claim ' end || lpad(t.id::text, 20, '0'),
               case when t.since is null then 'change' else 'claim' end, null, null, t.to_status,
               case when t.since is not null then t.at end, null, null, null, null, null, t.token, t.replica, t.actor, t.reason
          from (select * from lockgate.transitions t where t.run_id = run order by t.id limit most) t where t.entity = 'run'
        union all
        select r.created_at, 'change', 'change', null, null, 'queued', null, null, null, null, null, r.forked_from, null, null,
               r.actor, null
          from lockgate.task_runs r
         where r.id = run and not exists (
               -- Its start is the first that was recorded of it.
               select from (select * from lockgate.transitions t where t.run_id = run order by t.id limit 10) t
                where t.entity = 'run' and t.from_status is null)
        union all
        select r.claimed_at, 'claim held', 'claim', null, null, 'held', null, r.lease_until, null, null, null, null, r.claim_token,
               r.claimed_by, null, null
          from lockgate.task_runs r where r.id = run and r.claim_id is not null
        union all
        select g.created_at, 'signal ' || lpad(g.seq::text, 20, '0'), 'signal', g.name, null,
               case when g.consumed_by is null then 'waiting' else 'taken' end, null, null, null, null, octet_length(g.payload),
               null, g.seq, null, g.actor, 'by step ' || g.consumed_by
          from (select * from lockgate.signals g where g.run_id = run order by g.seq limit most) g
        union all
        select f.created_at, 'fork ' || f.id, 'fork', f.workflow, null, f.status, f.finished_at, null, null, null, null, f.id, null,
               null, f.actor, null
          from (select * from lockgate.task_runs f where f.forked_from = run limit most) f
        union all
        select r.created_at, ' capped', 'capped', null, null, 'capped', null, null, null, null, null, null, null, null, null,
               'of its steps, audit rows, signals and forks the first ' || most || ' each are told'
          from lockgate.task_runs r
         where r.id = run
           and (exists (select from lockgate.run_steps s where s.run_id = run offset most)
                or exists (select from lockgate.transitions t where t.run_id = run offset most)
                or exists (select from lockgate.signals g where g.run_id = run offset most)
                or exists (select from lockgate.task_runs f where f.forked_from = run offset most))
      ) x
     where after is null or (x.at, x.key collate "C") > (after_at, after_key)
     order by x.at, x.key collate "C"
     limit least(greatest(page, 1), 1000)
      ) p
     order by p.at, p.key collate "C";
end $$;

comment on function lockgate.run_timeline(uuid, text, integer, boolean) is
    'How a run went: its steps, claims, changes, signals, and the runs made of it, in order of their begin, at most 1,000 behind a cursor; what steps returned and signals told only with with_values, as far as the session''s user may read it; the first row says so when there is more than it looks at';

create or replace function lockgate.find_runs(p_act text, p_filter jsonb, p_after uuid, p_limit integer)
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
    -- So many are looked at, whatever there is.
    most constant integer := 20000;
    unfinished constant boolean := p_act in ('cancel', 'pause', 'resume');
    behind uuid := coalesce(p_after, '00000000-0000-0000-0000-000000000000');
    looked uuid[];
    part uuid[];
    -- The last that was looked at of all; null: there are no others.
    up_to uuid;
    told bigint;
begin
    -- By an index of its own where what is asked for has one, and it is few.
    if having_attributes is not null then
        looked := array(select r.id from lockgate.task_runs r where r.attributes @> having_attributes limit most + 1);
    elsif of_parent is not null then
        looked := array(select r.id from lockgate.task_runs r where r.parent_id = of_parent limit most + 1);
    end if;
    if looked is null or cardinality(looked) > most then
        looked := '{}';
        if unfinished then
            -- However many are over: each that is not is in one of three partial indexes, as in list_unfinished_runs.
            looked := array(select r.id from lockgate.task_runs r where r.claim_id is not null and r.id > behind order by r.id limit most);
            if cardinality(looked) = most then up_to := looked[most]; end if;
            part := array(select r.id from lockgate.task_runs r
                           where r.claim_id is null and r.finished_at is null
                             and (r.wake_at is null or r.status in ('paused', 'quarantined')) and r.id > behind
                           order by r.id limit most);
            if cardinality(part) = most then up_to := least(up_to, part[most]); end if;
            looked := looked || part;
            -- Those that are ready, or have a time, are in the order of their queues.
            part := array(select r.id from lockgate.task_runs r
                           where r.wake_at is not null and r.claim_id is null and r.status in ('queued', 'running', 'suspended')
                           order by coalesce(r.queue, r.workflow), coalesce(r.rank, r.wake_at), r.wake_at limit most + 1);
        end if;
        if not unfinished or cardinality(part) > most then
            part := array(select r.id from lockgate.task_runs r where r.id > behind order by r.id limit most);
            if cardinality(part) = most then up_to := least(up_to, part[most]); end if;
        end if;
        looked := looked || part;
    end if;
    return query
    select r.id, r.workflow, r.status
      from (select distinct l.id from unnest(looked) l (id) where l.id > behind and (up_to is null or l.id <= up_to)) l
     cross join lateral (select * from lockgate.task_runs t where t.id = l.id limit 1) r
     where case p_act when 'cancel' then r.finished_at is null and r.stop_status is null
                      when 'pause' then r.stop_status is null and r.status in ('queued', 'running', 'suspended')
                      when 'resume' then r.status in ('paused', 'quarantined')
                      when 'delete' then r.finished_at is not null and r.pruning_since is null
                      -- A run that was done again is not done again with the others.
                      else r.status in ('failed', 'cancelled') and r.pruning_since is null and r.driven_by = 'engine'
                           and not exists (select from lockgate.task_runs f where f.forked_from = r.id) end
       and (of_workflow is null or r.workflow = of_workflow) and (of_status is null or r.status = of_status)
       and (of_queue is null or coalesce(r.queue, r.workflow) = of_queue) and (of_tenant is null or r.tenant = of_tenant)
       and (of_schedule is null or r.schedule = of_schedule) and (of_parent is null or r.parent_id = of_parent)
       and (since is null or r.created_at >= since) and (until is null or r.created_at < until)
       and (having_attributes is null or r.attributes @> having_attributes)
     order by r.id limit p_limit;
    get diagnostics told = row_count;
    if told < p_limit and up_to is not null then return query select up_to, null::text, null::text; end if;
end $$;
comment on function lockgate.find_runs(text, jsonb, uuid, integer) is
    'Runs behind an id, in order of ids, that fit a filter and are in a state in which the act does something; it looks at a bounded number, and a last row without a workflow says where it stopped';

create or replace function lockgate.act_on_runs(act text, filter jsonb, reason text default null, actor text default null,
    dry_run boolean default false, at_most integer default 500, after uuid default null,
    out matched bigint, out acted bigint, out next uuid, out sample jsonb)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
    planned text := current_setting('plan_cache_mode');
    page integer := least(greatest(at_most, 1), 500);
    found record;
    state text;
    stopped boolean := false;
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
        select count(f.workflow), coalesce(jsonb_agg(jsonb_build_object('run_id', f.id, 'workflow', f.workflow, 'status', f.status)
                                            order by f.at) filter (where f.at <= 10 and f.workflow is not null), '[]'),
               (array_agg(f.id order by f.at desc) filter (where f.workflow is null or f.at = 100000))[1]
          into matched, sample, next
          from (select *, row_number() over (order by r.id, r.workflow) as at from lockgate.find_runs(act, filter, after, 100000) r) f;
        perform set_config('plan_cache_mode', planned, true);
        return;
    end if;
    for found in select * from lockgate.find_runs(act, filter, after, page) loop
        next := found.id;
        stopped := found.workflow is null;
        exit when stopped;
        state := lockgate.act_on_run(act, found.id, reason, actor);
        matched := matched + 1;
        if state = any (case act when 'cancel' then '{cancelled,stopping}'::text[] when 'pause' then '{paused}'
                                 when 'resume' then '{queued,running,suspended}' when 'delete' then '{deleted,deleting}'
                                 else '{retried}' end) then
            acted := acted + 1;
        end if;
        if matched <= 10 then
            sample := sample || jsonb_build_object('run_id', found.id, 'workflow', found.workflow, 'status', state);
        end if;
    end loop;
    if matched < page and not stopped then next := null; end if;
    perform set_config('plan_cache_mode', planned, true);
end $$;

comment on function lockgate.act_on_runs(text, jsonb, text, text, boolean, integer, uuid) is
    'Cancels, pauses, resumes, deletes or retries a page of at most 500 runs that fit a filter, or as many as one bounded look finds; next: there may be more, ask again with it as after; dry_run: only counts them';

-- Nobody starts a child or a copy this way any more.
drop function lockgate.start_runs(uuid[], text[], bytea[], boolean, text[], smallint[], text[], text[], jsonb[], uuid[], text[],
    smallint[], uuid[], uuid[], uuid[], timestamptz[], double precision[], integer[], text[], text[]);
drop function lockgate.start_by_hand(uuid, text, bytea, text, text, timestamptz, integer, interval, text, text, text, smallint, text,
    text, text, jsonb, uuid, text, smallint, uuid, uuid, uuid, boolean);

create function lockgate.start_runs(
    p_ids uuid[], p_workflows text[], p_params bytea[], p_again boolean default false, p_queues text[] default '{}',
    p_priorities smallint[] default '{}', p_tenants text[] default '{}', p_limit_keys text[] default '{}',
    p_attributes jsonb[] default '{}', p_start_at timestamptz[] default '{}', p_deadlines_s double precision[] default '{}',
    p_paces integer[] default '{}', p_traceparents text[] default '{}', p_actors text[] default '{}') returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    born timestamptz := clock_timestamp();
    nobody text := lockgate.acting_user(null);
    started bigint;
begin
    -- What no run of the page has is an empty array, which costs nothing. The rows say who started them and when: nothing
    -- is written twice, and nobody is rung here, which would make commits wait for each other.
    insert into lockgate.task_runs (id, workflow, status, params, queue, priority, tenant, limit_key, attributes,
        origin_id, wake_at, rank, deadline_at, pace_per_s, traceparent, actor,
        created_at)
    select u.id, u.workflow, 'queued', u.params, u.queue, u.priority, u.tenant, u.limit_key, u.attributes,
           u.id, t.due,
           t.due - u.priority * interval '15 seconds', t.due + make_interval(secs => u.deadline_s), u.pace_per_s,
           u.traceparent, case when u.actor is null then nobody else lockgate.acting_user(u.actor) end, born
      from unnest(p_ids, p_workflows, p_params, p_queues, p_priorities, p_tenants, p_limit_keys, p_attributes,
                  p_start_at, p_deadlines_s, p_paces,
                  p_traceparents, p_actors)
           u (id, workflow, params, queue, priority, tenant, limit_key, attributes, start_at, deadline_s, pace_per_s, traceparent, actor)
     cross join lateral (select coalesce(u.start_at, born) as due) t
     -- A first request cannot meet its own rows, and looking for them would be all that it waits for.
     where not p_again or not exists (select from lockgate.task_runs r where r.id = u.id);
    get diagnostics started = row_count;
    return started;
end $$;

comment on function lockgate.start_runs(uuid[], text[], bytea[], boolean, text[], smallint[], text[], text[], jsonb[], timestamptz[],
    double precision[], integer[], text[], text[]) is
    'Starts runs without keys under ids made by the caller; asked again (p_again) it starts those that are not there; the caller rings the replicas';

create function lockgate.start_by_hand(
    p_id uuid, p_workflow text, p_params bytea, p_singleton_key text default null, p_idempotency_key text default null,
    p_start_at timestamptz default null, p_pace_per_s integer default null, p_deadline interval default null,
    p_traceparent text default null, p_actor text default null, p_queue text default null, p_priority smallint default null,
    p_tenant text default null, p_limit_key text default null, p_debounce_key text default null,
    p_attributes jsonb default null, p_rings boolean default true,
    out outcome text, out run_id uuid)
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    select s.outcome, s.run_id
      from lockgate.try_start_new_run(
          p_id => p_id, p_workflow => p_workflow, p_params => p_params, p_driven_by => 'engine',
          p_singleton_key => p_singleton_key, p_idempotency_key => p_idempotency_key, p_schedule => null, p_slot => null,
          p_wake_at => p_start_at, p_pace_per_s => p_pace_per_s, p_deadline => p_deadline, p_origin_id => null,
          p_traceparent => p_traceparent, p_leader_term => null, p_actor => lockgate.acting_user(p_actor),
          p_queue => p_queue, p_priority => p_priority, p_tenant => p_tenant, p_limit_key => p_limit_key,
          p_debounce_key => p_debounce_key, p_attributes => p_attributes, p_rings => p_rings) s
$$;

comment on function lockgate.start_by_hand(uuid, text, bytea, text, text, timestamptz, integer, interval, text, text, text, smallint, text,
    text, text, jsonb, boolean) is
    'Starts a run under an id made by the caller, so that asking again is safe; answers new, found, debounced, held or busy';

do $$
declare
    role text;
    starts regprocedure;
begin
    for starts in select p.oid::regprocedure from pg_proc p
                   where p.pronamespace = 'lockgate'::regnamespace and p.proname in ('start_runs', 'start_by_hand') loop
        execute format('revoke all on function %s from public', starts);
        for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator') loop
            execute format('grant execute on function %s to %I', starts, role);
        end loop;
    end loop;
end $$;

-- What operators do with commands that are stuck in the outbox, without rights on the table. One that a relay holds this
-- moment may arrive all the same.
create function lockgate.change_outbox(
    p_to text, ids uuid[], of_type text, to_route text, before timestamptz, newer_than bigint, page integer, why text,
    by_actor text, to_topic text, dry_run boolean, out seen bigint, out changed bigint, out last_seq bigint)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    who text := lockgate.acting_user(by_actor);
    picked bigint[];
    -- So many are looked at, whatever there is.
    looked bigint[] := array(select o.seq from lockgate.outbox o where o.seq > coalesce(newer_than, 0) order by o.seq limit 20000);
begin
    if coalesce(btrim(why), '') = '' then
        raise exception 'no reason given; nothing was changed' using errcode = 'invalid_parameter_value', hint = 'say why';
    end if;
    picked := array(select o.seq from lockgate.outbox o
                     where o.seq = any (looked) and (ids is null or o.message_id = any (ids))
                       and (of_type is null or o.command_type = of_type) and (to_route is null or o.route = to_route)
                       and (before is null or o.created_at < before)
                     order by o.seq limit least(greatest(page, 1), 1000));
    seen := cardinality(picked);
    changed := 0;
    last_seq := case when seen >= page then picked[seen] when cardinality(looked) = 20000 then looked[20000] end;
    if dry_run then return; end if;
    if p_to = 'dead' and to_topic is null and exists (
        select from lockgate.outbox o where o.seq = any (picked) and o.route like ':%') then
        raise exception 'some of these commands go where the configuration says; nothing was changed'
            using errcode = 'invalid_parameter_value', hint = 'name their topic, for one type at a time';
    end if;
    with gone as (
        delete from lockgate.outbox o where o.seq = any (picked) returning o.*, lockgate.new_id() as id
    ), stored as (
        insert into lockgate.undelivered_messages (command_type, id, message_id, status, reason_code, reason, topic, key, headers,
            payload, actor)
        select g.command_type, g.id, g.message_id, 'dead', 'set_aside', why, coalesce(to_topic, g.route), g.key, g.headers,
               g.payload, who
          from gone g where p_to = 'dead'
    ), audit as (
        insert into lockgate.transitions (entity, key, from_status, to_status, actor, reason)
        select 'undelivered', case p_to when 'dead' then g.id else g.message_id end::text, 'enqueued', p_to, who, why from gone g
    )
    select count(*) into changed from gone;
end $$;
comment on function lockgate.change_outbox(
    text, uuid[], text, text, timestamptz, bigint, integer, text, text, text, boolean) is
    'Takes a page of commands out of the outbox, with audit; called by the two functions for operators';

create function lockgate.move_outbox(
    why text, ids uuid[] default null, of_type text default null, to_route text default null, before timestamptz default null,
    newer_than bigint default null, page integer default 1000, to_topic text default null, by_actor text default null,
    dry_run boolean default false, out seen bigint, out changed bigint, out last_seq bigint)
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    select c.seen, c.changed, c.last_seq
      from lockgate.change_outbox('dead', ids, of_type, to_route, before, newer_than, page, why, by_actor, to_topic, dry_run) c
$$;
comment on function lockgate.move_outbox(
    text, uuid[], text, text, timestamptz, bigint, integer, text, text, boolean) is
    'Moves a page of commands out of the outbox to the undelivered messages, as dead, from where they are redelivered, exported or discarded; those of a key lose their order. Go on behind last_seq while there is one';

create function lockgate.discard_outbox(
    why text, ids uuid[] default null, of_type text default null, to_route text default null, before timestamptz default null,
    newer_than bigint default null, page integer default 1000, by_actor text default null, dry_run boolean default false,
    out seen bigint, out changed bigint, out last_seq bigint)
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    select c.seen, c.changed, c.last_seq
      from lockgate.change_outbox('discarded', ids, of_type, to_route, before, newer_than, page, why, by_actor, null, dry_run) c
$$;
comment on function lockgate.discard_outbox(
    text, uuid[], text, text, timestamptz, bigint, integer, text, boolean) is
    'Gives up a page of commands of the outbox for good. Go on behind last_seq while there is one';

do $$
declare
    role text;
begin
    revoke all on function
        lockgate.change_outbox(text, uuid[], text, text, timestamptz, bigint, integer, text, text, text, boolean),
        lockgate.move_outbox(text, uuid[], text, text, timestamptz, bigint, integer, text, text, boolean),
        lockgate.discard_outbox(text, uuid[], text, text, timestamptz, bigint, integer, text, boolean) from public;
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator') loop
        execute format('grant execute on function
            lockgate.move_outbox(text, uuid[], text, text, timestamptz, bigint, integer, text, text, boolean),
            lockgate.discard_outbox(text, uuid[], text, text, timestamptz, bigint, integer, text, boolean) to %I', role);
    end loop;
end $$;
