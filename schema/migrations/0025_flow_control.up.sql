-- Queues: how many of their runs are under way at once, how fast they begin, and whose turn it is. A queue without a row
-- has no limits, and its claims look at nothing of this.
create table lockgate.queues (
    name text primary key check (name <> '' and length(name) <= 200),
    max_running integer check (max_running > 0),
    max_per_key integer check (max_per_key > 0),
    rate_per_s double precision check (rate_per_s > 0 and rate_per_s <= 1000000),
    burst integer check (burst between 1 and 1000000),
    tokens double precision,
    refilled_at timestamptz,
    fair boolean not null default false,
    holds text not null default 'code' check (holds in ('code', 'run')),
    max_attempt interval check (max_attempt >= interval '1 second' and max_attempt <= interval '1000 days'),
    paused_at timestamptz,
    paused_by text,
    pause_reason text,
    last_tenant text,
    last_key text,
    actor text not null,
    created_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp(),
    constraint queues_per_key_check check (max_per_key <= max_running),
    constraint queues_rate_check check (num_nulls(rate_per_s, burst, tokens, refilled_at) in (0, 4)),
    constraint queues_pause_check check ((paused_at is null) = (paused_by is null))
) with (
    -- A limited queue's row is rewritten with its claims.
    fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200
);

comment on table lockgate.queues is 'What is set for queues: limits, fairness, pauses; a queue without a row has none';
comment on column lockgate.queues.name is 'The queue; a workflow without one has its own name';
comment on column lockgate.queues.max_running is 'Most runs that hold a place at once in the whole fleet; null: no limit';
comment on column lockgate.queues.max_per_key is 'The same for each limit key; null: no limit';
comment on column lockgate.queues.rate_per_s is 'Claims a second in the whole fleet, with holds = run only first ones; null: no limit';
comment on column lockgate.queues.burst is 'Claims that may come at once after a pause';
comment on column lockgate.queues.tokens is 'Claims that were left at refilled_at';
comment on column lockgate.queues.refilled_at is 'When the tokens were counted last';
comment on column lockgate.queues.fair is 'Tenants take turns, those with fewest runs under way first';
comment on column lockgate.queues.holds is 'How long a run holds its place. code: while its code runs; run: from its first claim until it is over';
comment on column lockgate.queues.max_attempt is 'How long code may run from its claim until it waits or ends; null: no limit';
comment on column lockgate.queues.paused_at is 'Since when nothing of it is claimed; null: not paused';
comment on column lockgate.queues.paused_by is 'Who paused it';
comment on column lockgate.queues.pause_reason is 'Why it is paused';
comment on column lockgate.queues.last_tenant is 'Tenant whose turn was last';
comment on column lockgate.queues.last_key is 'Limit key whose turn was last';
comment on column lockgate.queues.actor is 'Who set it last';
comment on column lockgate.queues.created_at is 'When it was set first';
comment on column lockgate.queues.updated_at is 'When its settings were changed last';

-- A place is held by the run's own row and by nothing beside it: what ends a claim or a run frees it.
alter table lockgate.task_runs
    add column holds text check (holds in ('code', 'run')),
    add column overruns smallint;
comment on column lockgate.task_runs.holds is
    'Last claimed from a limited queue, in which it holds a place. code: while it is claimed; run: until it is over; null: not';
comment on column lockgate.task_runs.overruns is
    'How often in a row its code ran longer than max_attempt of its queue; null: not';

-- pick_limited_runs, pick_runs_by_turn, why_queue: who holds a place, by key.
create index task_runs_holding on lockgate.task_runs (coalesce(queue, workflow), limit_key)
    where holds is not null and finished_at is null and (claim_id is not null or holds = 'run');
-- pick_limited_runs: runs that go on in the place that they hold.
create index task_runs_going_on on lockgate.task_runs (coalesce(queue, workflow), coalesce(rank, wake_at), wake_at)
    where holds = 'run' and wake_at is not null and claim_id is null and status in ('queued', 'running', 'suspended');
-- pick_runs_by_turn: the ready runs of each tenant and key.
create index task_runs_turns on lockgate.task_runs
    (coalesce(queue, workflow), coalesce(tenant, ''), coalesce(limit_key, ''), coalesce(rank, wake_at), wake_at)
    where (tenant is not null or limit_key is not null) and wake_at is not null and claim_id is null
      and status in ('queued', 'running', 'suspended');
-- read_queues: which queues have runs of which workflow, beside those with a workflow's own name.
create index task_runs_named on lockgate.task_runs (queue, workflow)
    where queue is not null and wake_at is not null and claim_id is null and status in ('queued', 'running', 'suspended');
-- suspect_queues: runs that holders died on.
create index task_runs_suspects on lockgate.task_runs (coalesce(queue, workflow))
    where attempts >= 2 and wake_at is not null and claim_id is null and status in ('queued', 'running', 'suspended');
-- A start under a debounce key replaces what waits under it; the claim takes the key off.
create unique index task_runs_debounced on lockgate.task_runs (workflow, debounce_key)
    where debounce_key is not null and status in ('queued', 'paused');

alter table lockgate.transitions drop constraint transitions_entity_check;
alter table lockgate.transitions add constraint transitions_entity_check
    check (entity in ('run', 'batch', 'schedule', 'undelivered', 'leader', 'queue'));
comment on column lockgate.transitions.entity is 'run, batch, schedule, undelivered, leader or queue';
comment on column lockgate.transitions.key is 'Name of a schedule, queue or lease, or id of an undelivered row';

create function lockgate.hold_places(p_queue text default null) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    changed bigint;
begin
    with limited as (
        select q.name, q.holds from lockgate.queues q
         where (p_queue is null or q.name = p_queue) and (q.max_running is not null or q.max_per_key is not null or q.fair)
    ), others as (
        select r.id, l.holds
          from lockgate.task_runs r join limited l on l.name = coalesce(r.queue, r.workflow)
         where r.claim_id is not null and r.holds is distinct from l.holds
        union all
        select r.id, l.holds
          from limited l join lockgate.task_runs r on coalesce(r.queue, r.workflow) = l.name
         where r.holds = 'run' and l.holds = 'code' and r.finished_at is null and r.claim_id is null
    ), locked as (
        -- Whoever works on such a row is not waited for: the next sweep comes.
        select r.id, o.holds from others o join lockgate.task_runs r on r.id = o.id
           for no key update of r skip locked
    )
    update lockgate.task_runs r set holds = locked.holds from locked where r.id = locked.id;
    get diagnostics changed = row_count;
    return changed;
end $$;
comment on function lockgate.hold_places(text) is
    'Gives places to runs that were claimed before their queue had limits, or by a replica that did not know of them';

create function lockgate.set_queue(
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
    if found and only_new then return 'known'; end if;
    if found and (was.max_running, was.max_per_key, was.rate_per_s, was.burst, was.fair, was.holds, was.max_attempt)
        is not distinct from (set_queue.max_running, set_queue.max_per_key, set_queue.rate_per_s, wanted_burst,
                              set_queue.fair, set_queue.holds, set_queue.max_attempt) then
        return 'same';
    end if;
    -- What was saved up stays; a rate that is new begins with a whole burst.
    left_over := case when wanted_burst is not null then least(wanted_burst, coalesce(least(was.burst,
        was.tokens + was.rate_per_s * extract(epoch from clock_timestamp() - was.refilled_at)), wanted_burst)) end;
    insert into lockgate.queues as q (name, max_running, max_per_key, rate_per_s, burst, tokens, refilled_at, fair, holds,
        max_attempt, actor)
    values (set_queue.name, set_queue.max_running, set_queue.max_per_key, set_queue.rate_per_s, wanted_burst, left_over,
        case when wanted_burst is not null then clock_timestamp() end, set_queue.fair, set_queue.holds,
        set_queue.max_attempt, who)
    on conflict (name) do update
       set max_running = excluded.max_running, max_per_key = excluded.max_per_key, rate_per_s = excluded.rate_per_s,
           burst = excluded.burst, tokens = excluded.tokens, refilled_at = excluded.refilled_at, fair = excluded.fair,
           holds = excluded.holds, max_attempt = excluded.max_attempt, actor = excluded.actor,
           updated_at = clock_timestamp()
     where not only_new;
    if not found then return 'known'; end if;
    insert into lockgate.transitions (entity, key, from_status, to_status, actor, reason)
    values ('queue', set_queue.name, case when was.name is not null then 'set' end, 'set', who,
        concat_ws(': ', set_queue.reason, what));
    perform lockgate.hold_places(set_queue.name);
    perform pg_notify('lockgate_wake', 'queue');
    return case when was.name is null then 'new' else 'changed' end;
end $$;
comment on function lockgate.set_queue(text, integer, integer, double precision, integer, boolean, text, interval, text,
    text, boolean) is
    'Makes the settings of a queue what is given; what is not given is no limit, a pause stays. Answers new, changed, same, or known (only_new, and it was set before)';

create function lockgate.remove_queue(name text, reason text default null, actor text default null) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    delete from lockgate.queues q where q.name = remove_queue.name;
    if not found then return 'unknown'; end if;
    insert into lockgate.transitions (entity, key, from_status, to_status, actor, reason)
    values ('queue', remove_queue.name, 'set', 'removed', lockgate.acting_user(remove_queue.actor), remove_queue.reason);
    perform pg_notify('lockgate_wake', 'queue');
    return 'removed';
end $$;
comment on function lockgate.remove_queue(text, text, text) is
    'Takes the settings of a queue away, a pause too: it has no limits then, its runs stay. Answers removed or unknown';

create function lockgate.pause_queue(name text, reason text default 'paused by an operator', actor text default null)
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
    insert into lockgate.queues as q (name, actor, paused_at, paused_by, pause_reason)
    values (pause_queue.name, who, clock_timestamp(), who, pause_queue.reason)
    on conflict (name) do update
       set paused_at = excluded.paused_at, paused_by = excluded.paused_by, pause_reason = excluded.pause_reason
     where q.paused_at is null;
    if not found then return 'paused'; end if;
    insert into lockgate.transitions (entity, key, from_status, to_status, actor, reason)
    values ('queue', pause_queue.name, 'active', 'paused', who, pause_queue.reason);
    perform pg_notify('lockgate_wake', 'queue');
    return 'paused';
end $$;
comment on function lockgate.pause_queue(text, text, text) is
    'Nothing of the queue is claimed until it is resumed; what is claimed goes on. The first pause and its reason stay';

create function lockgate.resume_queue(name text, reason text default null, actor text default null) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    update lockgate.queues q set paused_at = null, paused_by = null, pause_reason = null
     where q.name = resume_queue.name and q.paused_at is not null;
    if not found then
        return case when exists (select from lockgate.queues q where q.name = resume_queue.name)
                    then 'active' else 'unknown' end;
    end if;
    insert into lockgate.transitions (entity, key, from_status, to_status, actor, reason)
    values ('queue', resume_queue.name, 'paused', 'active', lockgate.acting_user(resume_queue.actor), resume_queue.reason);
    perform pg_notify('lockgate_wake', 'queue');
    return 'active';
end $$;
comment on function lockgate.resume_queue(text, text, text) is
    'Runs of the queue are claimed again. Answers active, or unknown when nothing is set for it';

create function lockgate.list_queues(p_name text default null)
returns table (name text, waiting bigint, later bigint, running bigint, holding bigint, oldest_wait interval,
    max_running integer, max_per_key integer, rate_per_s double precision, burst integer, tokens double precision,
    fair boolean, holds text, max_attempt interval, paused_at timestamptz, paused_by text, pause_reason text, actor text,
    updated_at timestamptz)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    with recursive waiting_names (name) as (
        (select coalesce(r.queue, r.workflow) from lockgate.task_runs r
          where r.wake_at is not null and r.claim_id is null and r.status in ('queued', 'running', 'suspended')
            and p_name is null
          order by 1 limit 1)
        union all
        select (select coalesce(r.queue, r.workflow) from lockgate.task_runs r
                 where coalesce(r.queue, r.workflow) > n.name and r.wake_at is not null and r.claim_id is null
                   and r.status in ('queued', 'running', 'suspended')
                 order by 1 limit 1)
          from waiting_names n where n.name is not null
    ), claimed as (
        select coalesce(r.queue, r.workflow) as name, count(*) as runs
          from lockgate.task_runs r where r.claim_id is not null group by 1
    ), names as (
        select p_name as name where p_name is not null
        union select w.name from waiting_names w where w.name is not null
        union select c.name from claimed c where p_name is null
        union select q.name from lockgate.queues q where p_name is null
         limit 10000
    )
    select n.name, d.waiting, d.later, coalesce(c.runs, 0), h.holding, d.oldest, q.max_running, q.max_per_key,
           q.rate_per_s, q.burst,
           least(q.burst, q.tokens + q.rate_per_s * extract(epoch from clock_timestamp() - q.refilled_at)),
           coalesce(q.fair, false), coalesce(q.holds, 'code'), q.max_attempt, q.paused_at, q.paused_by, q.pause_reason,
           q.actor, q.updated_at
      from names n
      left join lockgate.queues q on q.name = n.name
      left join claimed c on c.name = n.name
     cross join lateral (
         select count(*) filter (where w.wake_at <= clock_timestamp()) as waiting,
                count(*) filter (where w.wake_at > clock_timestamp()) as later,
                case when min(w.wake_at) <= clock_timestamp() then clock_timestamp() - min(w.wake_at) end as oldest
           from (select r.wake_at from lockgate.task_runs r
                  where coalesce(r.queue, r.workflow) = n.name and r.wake_at is not null and r.claim_id is null
                    and r.status in ('queued', 'running', 'suspended')
                  order by coalesce(r.rank, r.wake_at) limit 100000) w) d
     cross join lateral (
         select count(*) as holding from lockgate.task_runs r
          where coalesce(r.queue, r.workflow) = n.name and r.holds is not null and r.finished_at is null
            and (r.claim_id is not null or r.holds = 'run')) h
     order by n.name
$$;
comment on function lockgate.list_queues(text) is
    'Queues that are set, or have runs that wait or are claimed: how many runs wait (counted up to 100000) and run, how long the oldest has waited, and what is set';

do $$
declare
    role text;
begin
    revoke all on lockgate.queues from public;
    revoke all on function lockgate.hold_places(text), lockgate.set_queue(text, integer, integer, double precision, integer,
        boolean, text, interval, text, text, boolean), lockgate.remove_queue(text, text, text),
        lockgate.pause_queue(text, text, text), lockgate.resume_queue(text, text, text), lockgate.list_queues(text)
        from public;
    if exists (select 1 from pg_roles where rolname = 'lockgate_engine') then
        grant select, update on lockgate.queues to lockgate_engine;
        grant execute on function lockgate.hold_places(text) to lockgate_engine;
    end if;
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator') loop
        execute format('grant execute on function lockgate.set_queue(text, integer, integer, double precision, integer,
            boolean, text, interval, text, text, boolean), lockgate.remove_queue(text, text, text),
            lockgate.pause_queue(text, text, text), lockgate.resume_queue(text, text, text) to %I', role);
    end loop;
    for role in select rolname from pg_roles
        where rolname in ('lockgate_engine', 'lockgate_operator', 'lockgate_reader') loop
        execute format('grant select on lockgate.queues to %I', role);
        execute format('grant execute on function lockgate.list_queues(text) to %I', role);
    end loop;
    if exists (select 1 from pg_roles where rolname = 'lockgate_reader') then
        grant select (holds, overruns, tenant, limit_key, debounce_key) on lockgate.task_runs to lockgate_reader;
    end if;
end $$;
