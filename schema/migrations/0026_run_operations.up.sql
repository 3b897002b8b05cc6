-- What people do to runs: find them by attributes, do them again, see how they went; slots of schedules made good.

alter table lockgate.task_runs
    add column repeats_slot timestamptz,
    add column nominal_at timestamptz,
    add constraint task_runs_attributes_fit check (octet_length(attributes::text) <= 65536
        and not jsonb_path_exists(attributes,
            'strict $.* ? (@.type() != "string" && @.type() != "number" && @.type() != "boolean")'));
comment on column lockgate.task_runs.repeats_slot is
    'Slot that the run stands for whose steps it began with; null: none';
comment on column lockgate.task_runs.nominal_at is
    'The instant it is about, when that is neither its slot nor its own start: that of the run whose steps it began with';
comment on column lockgate.task_runs.started_at is
    'When its code ran first; of a run that began with another''s steps, when that one''s did';

-- list_runs, find_runs by attribute; only of runs that have any.
create index task_runs_attributes on lockgate.task_runs using gin (attributes jsonb_path_ops) where attributes is not null;
-- show_run, run_timeline, find_runs: runs that began with another's steps.
create index task_runs_forks on lockgate.task_runs (forked_from) where forked_from is not null;

drop function lockgate.start_run(text, jsonb, text, text, timestamptz, integer, interval);
create function lockgate.start_run(
    workflow text, params jsonb default '{}', idempotency_key text default null, singleton_key text default null,
    start_at timestamptz default null, pace_per_s integer default null, deadline interval default null,
    attributes jsonb default null, queue text default null, priority integer default null, tenant text default null,
    limit_key text default null, debounce_key text default null)
returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    started record;
begin
    if coalesce(workflow, '') = '' then
        raise exception 'start_run: workflow is empty; nothing was started' using hint = 'name a workflow';
    end if;
    if jsonb_typeof(attributes) <> 'object' or octet_length(attributes::text) > 65536
       or exists (select from jsonb_each(attributes) a where jsonb_typeof(a.value) not in ('string', 'number', 'boolean')) then
        raise exception 'start_run: attributes are not an object of strings, numbers and booleans of at most 64 KiB; nothing was started'
            using errcode = 'invalid_parameter_value';
    end if;
    select * into started from lockgate.try_start_new_run(
        p_id => lockgate.new_id(), p_workflow => workflow, p_params => convert_to(coalesce(params, '{}')::text, 'UTF8'),
        p_driven_by => 'engine', p_singleton_key => singleton_key, p_idempotency_key => idempotency_key, p_schedule => null,
        p_slot => null, p_wake_at => start_at, p_pace_per_s => pace_per_s, p_deadline => deadline, p_origin_id => null,
        p_traceparent => null, p_leader_term => null, p_actor => session_user::text, p_queue => queue,
        p_priority => priority::smallint, p_tenant => tenant, p_limit_key => limit_key, p_debounce_key => debounce_key,
        p_attributes => nullif(attributes, '{}'));
    if started.outcome = 'busy' then
        raise exception 'start_run: singleton key % is contended; nothing was started', singleton_key
            using errcode = 'lock_not_available', hint = 'try again';
    end if;
    return started.run_id;
end $$;
comment on function lockgate.start_run(text, jsonb, text, text, timestamptz, integer, interval, jsonb, text, integer, text, text,
    text) is
    'Starts a run of a workflow; the same idempotency key gives the same run; null when another run holds the singleton key';

create function lockgate.merged_attributes(p_old jsonb, p_new jsonb) returns jsonb
language sql immutable set search_path = pg_catalog, pg_temp as $$
    -- More than the table takes would keep the run from being let go: then those it had stay.
    select case when octet_length(m.merged::text) <= 65536 then nullif(m.merged, '{}') else p_old end
      from (select jsonb_strip_nulls(coalesce(p_old, '{}') || p_new) as merged) m
$$;
comment on function lockgate.merged_attributes(jsonb, jsonb) is
    'Attributes of a run with those that its code set; one that is null is taken away';

create function lockgate.step_place(p_path text) returns integer[]
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select array_agg(substring(s.part from '^\d+')::integer order by s.at)
      from unnest(string_to_array(p_path, '/')) with ordinality s (part, at)
     where s.part <> 'undo'
$$;
comment on function lockgate.step_place(text) is
    'The numbers of a step''s path: ordinal, then branch and ordinal for each branch; null at the end for what has no ordinal';

create function lockgate.step_order(p_place integer[], p_from integer[]) returns integer
language sql immutable set search_path = pg_catalog, pg_temp as $$
    -- Where the two part: at a number of a branch they stand beside each other, at an ordinal one is before the other.
    select case when d.i is null then 1
                when d.i % 2 = 0 then 0
                when p_place[d.i] < p_from[d.i] then -1
                when p_place[d.i] is not null then 1 end
      from (select min(i) as i
              from generate_series(1, least(cardinality(p_place), cardinality(p_from))) i
             where p_place[i] is distinct from p_from[i]) d
$$;
comment on function lockgate.step_order(integer[], integer[]) is
    'Whether a step stands before a place (-1), beside it in another branch (0), or there or behind it (1); null: places do not tell';

create function lockgate.steps_before(p_run uuid, p_from text[]) returns setof text
language sql stable set search_path = pg_catalog, pg_temp as $$
    with steps as materialized (
        select s.path, s.kind, s.status, s.started_at, lockgate.step_place(s.path) as place, s.path ~ '(^|/)undo(/|$)' as undo
          from lockgate.run_steps s where s.run_id = p_run
    ), named as (
        select lockgate.step_place(f.path) as place from unnest(p_from) f (path)
        union
        -- What was taken back is done again.
        select u.place from steps u where u.undo and u.place is not null
    ), roots as (
        select place from named
        union
        -- So is what failed beside it.
        select f.place from steps f
         where f.status = 'failed' and not f.undo
           and exists (select from named n where lockgate.step_order(f.place, n.place) = 0)
           and not exists (select from named n where lockgate.step_order(f.place, n.place) > 0)
    ), judged as (
        select s.*, o.worst, o.unknown
          from steps s
         cross join lateral (
             select max(lockgate.step_order(s.place, r.place)) as worst,
                    bool_or(lockgate.step_order(s.place, r.place) is null) as unknown
               from roots r) o
         where not s.undo
    ), cut as (
        select min(j.started_at) as at from judged j where j.worst > 0
    )
    select j.path
      from judged j cross join cut
     where j.status <> 'open' and coalesce(j.worst, 0) <= 0
       -- Of what has no ordinal the clock tells whether it came before.
       and (not coalesce(j.unknown, false) or cut.at is null or j.started_at <= cut.at)
$$;
comment on function lockgate.steps_before(uuid, text[]) is
    'Paths of the ended steps of a run that what is done from these places on does not touch';

create function lockgate.find_step(p_run uuid, p_from text, out paths text[])
language sql stable set search_path = pg_catalog, pg_temp as $$
    -- By its path, or by its name where that is one step's only.
    select array_agg(s.path order by s.path)
      from (select s.path from lockgate.run_steps s
             where s.run_id = p_run and s.kind <> 'version' and s.path !~ '(^|/)undo(/|$)'
               and (s.path = p_from
                    or (substring(s.path from '^(?:.*/)?\d+:(.*)$') = p_from
                        and not exists (select from lockgate.run_steps e where e.run_id = p_run and e.path = p_from)))
             order by s.path limit 5) s
$$;
comment on function lockgate.find_step(uuid, text) is 'Steps of a run that have this path, or else this name; five at most';

create function lockgate.repeat_run(
    p_id uuid, p_run uuid, p_how text, p_from text, p_params bytea, p_keep_ids boolean, p_reason text, p_actor text,
    out outcome text, out run_id uuid, out detail text)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    was lockgate.task_runs;
    born timestamptz := clock_timestamp();
    origin uuid;
    roots text[];
    kept text[] := '{}';
    told bigint := 0;
begin
    select r.id into run_id from lockgate.task_runs r where r.id = p_id;
    if found then outcome := 'found'; return; end if;
    -- Held so that it is not pruned while it is copied.
    select * into was from lockgate.task_runs r where r.id = p_run for share;
    if not found then outcome := 'unknown'; return; end if;
    if was.pruning_since is not null then outcome := 'pruned'; return; end if;
    if was.finished_at is null then outcome := 'not_over'; detail := was.status; return; end if;
    if was.driven_by <> 'engine' then outcome := 'no_code'; return; end if;
    if octet_length(p_params) > 1048576 then outcome := 'too_large'; return; end if;
    if p_from is not null then
        roots := lockgate.find_step(p_run, p_from);
        if roots is null then outcome := 'no_step'; return; end if;
        if cardinality(roots) > 1 then outcome := 'ambiguous'; detail := array_to_string(roots, ', '); return; end if;
    elsif p_how = 'retry' then
        if was.status = 'completed' then outcome := 'completed'; return; end if;
        -- The step of which it failed; without one its code goes on where the record ends.
        select array[s.path] into roots from lockgate.run_steps s
         where s.run_id = p_run and s.status = 'failed' and s.path !~ '(^|/)undo(/|$)'
         order by s.finished_at desc, s.path limit 1;
    end if;
    if p_how = 'retry' or p_from is not null then
        kept := array(select b.path from lockgate.steps_before(p_run, roots) b (path));
    end if;
    if p_params is null then
        select count(*) into told from lockgate.signals s
         where s.run_id = p_run and (s.consumed_by is null or s.consumed_by <> all (kept));
    end if;
    origin := case when p_keep_ids then was.origin_id else p_id end;
    insert into lockgate.task_runs (id, workflow, queue, priority, status, driven_by, params, origin_id, seed_id, singleton_key,
        pace_per_s, deadline_at, wake_at, rank, wake_seq, traceparent, tenant, limit_key, attributes, forked_from, repeats_slot,
        nominal_at, code_version, started_at, actor, created_at)
    values (p_id, was.workflow, was.queue, was.priority, 'queued', 'engine', coalesce(p_params, was.params), origin,
        nullif(coalesce(was.seed_id, was.origin_id), origin), was.singleton_key, was.pace_per_s,
        born + (was.deadline_at - was.created_at), born, born - was.priority * interval '15 seconds', told, was.traceparent,
        was.tenant, was.limit_key, was.attributes, p_run, coalesce(was.slot, was.repeats_slot),
        case when coalesce(was.slot, was.repeats_slot) is null then coalesce(was.nominal_at, was.created_at) end,
        -- Steps are read by the code that wrote them, or by one that says it can.
        case when cardinality(kept) > 0 then was.code_version end, case when cardinality(kept) > 0 then was.started_at end,
        lockgate.acting_user(p_actor), born)
    on conflict do nothing;
    if not found then
        select r.id into run_id from lockgate.task_runs r where r.id = p_id;
        outcome := case when found then 'found' else 'held' end;
        detail := was.singleton_key;
        return;
    end if;
    insert into lockgate.run_steps (run_id, path, kind, status, consistent, planned_items, planned_batches, planned_at, result,
        started_at, finished_at, attempts)
    -- What a fan-out planned and sent is the other run's, and proved there.
    select p_id, s.path, s.kind, s.status, s.consistent, s.planned_items * 0, s.planned_batches * 0, s.planned_at, s.result,
           s.started_at, s.finished_at, s.attempts
      from lockgate.run_steps s where s.run_id = p_run and s.path = any (kept);
    if told > 0 then
        insert into lockgate.signals (run_id, seq, name, payload, idempotency_key, actor, created_at)
        select p_id, s.seq, s.name, s.payload, s.idempotency_key, s.actor, s.created_at from lockgate.signals s
         where s.run_id = p_run and (s.consumed_by is null or s.consumed_by <> all (kept));
    end if;
    insert into lockgate.transitions (entity, run_id, from_status, to_status, actor, reason)
    values ('run', p_run, was.status, case p_how when 'retry' then 'retried' else 'forked' end, lockgate.acting_user(p_actor),
            concat_ws(': ', format('as run %s', p_id) || coalesce(' from ' || roots[1], ''), p_reason)),
           ('run', p_id, null, 'queued', lockgate.acting_user(p_actor),
            concat_ws(': ', format('%s of run %s', p_how, p_run) || coalesce(' from ' || roots[1], ''), p_reason));
    perform pg_notify('lockgate_wake', 'run');
    outcome := 'new';
    run_id := p_id;
    detail := roots[1];
end $$;
comment on function lockgate.repeat_run(uuid, uuid, text, text, bytea, boolean, text, text) is
    'Starts a run that begins with the steps of one that is over, under an id made by the caller, so that asking again is safe; answers new, found, or why not: unknown, pruned, not_over, no_code, completed, no_step, ambiguous, too_large, held';

create function lockgate.repeated(p_verb text, p_run uuid, p_from text, p_answer record) returns uuid
language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
begin
    if p_answer.outcome in ('new', 'found') then return p_answer.run_id; end if;
    raise exception '%: %; nothing was started', p_verb,
        case p_answer.outcome
            when 'unknown' then format('there is no run %s', p_run)
            when 'pruned' then format('retention is deleting run %s', p_run)
            when 'not_over' then format('run %s is not over: it is %s', p_run, p_answer.detail)
            when 'no_code' then format('run %s is driven by its caller and has no code', p_run)
            when 'completed' then format('run %s is completed: name the step to begin again from', p_run)
            when 'no_step' then format('run %s has no step %s', p_run, p_from)
            when 'ambiguous' then format('run %s has several steps %s: %s', p_run, p_from, p_answer.detail)
            when 'too_large' then 'the input is larger than 1 MiB'
            else format('another unfinished run holds singleton key %s', p_answer.detail) end
        using errcode = case p_answer.outcome when 'unknown' then 'no_data_found' when 'too_large' then 'program_limit_exceeded'
                             when 'no_step' then 'invalid_parameter_value' when 'ambiguous' then 'invalid_parameter_value'
                             else 'object_not_in_prerequisite_state' end;
end $$;
comment on function lockgate.repeated(text, uuid, text, record) is 'What repeat_run answered, as a run or as an error in words';

create function lockgate.retry_run(run uuid, from_step text default null, reason text default null, actor text default null)
returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    answer record;
begin
    select * into answer from lockgate.repeat_run(lockgate.new_id(), run, 'retry', from_step, null, true, reason, actor);
    return lockgate.repeated('retry_run', run, from_step, answer);
end $$;
comment on function lockgate.retry_run(uuid, text, text, text) is
    'Starts a run that does what one that is over did, from the step that failed or from the one named (path or name): earlier steps are not done again, messages keep their ids; answers the new run';

create function lockgate.fork_run(run uuid, params jsonb default null, from_step text default null,
    keep_message_ids boolean default false, reason text default null, actor text default null)
returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    answer record;
begin
    select * into answer from lockgate.repeat_run(lockgate.new_id(), run, 'fork', from_step, convert_to(params::text, 'UTF8'),
        keep_message_ids, reason, actor);
    return lockgate.repeated('fork_run', run, from_step, answer);
end $$;
comment on function lockgate.fork_run(uuid, jsonb, text, boolean, text, text) is
    'Starts a run like one that is over, with this input if one is given, from the step named or from the beginning; its messages have new ids unless they are to be kept; answers the new run';

create function lockgate.run_timeline(run uuid, after text default null, page integer default 500, with_values boolean default false)
returns table (cursor text, at timestamptz, what text, name text, kind text, status text, ended_at timestamptz,
    due_at timestamptz, waits_for text, tries integer, size integer, value text, other_run uuid, token bigint, replica uuid,
    actor text, reason text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    after_at timestamptz := timestamptz 'epoch' + split_part(after, '|', 1)::bigint * interval '1 microsecond';
    after_key text := substring(after from position('|' in after) + 1);
begin
    -- As the owner, and so only to those who may read what steps returned.
    if with_values and not has_column_privilege(session_user, 'lockgate.run_steps', 'result', 'select') then
        raise exception 'run_timeline: % may not read results', session_user using errcode = 'insufficient_privilege';
    end if;
    return query
    select (extract(epoch from x.at) * 1000000)::bigint || '|' || x.key, x.at, x.what, x.name, x.kind, x.status, x.ended_at, x.due_at,
           x.waits_for, x.tries, x.size, x.value, x.other_run, x.token, x.replica, x.actor, x.reason
      from (
        select s.started_at as at, 'step ' || s.path as key, 'step' as what, s.path as name, s.kind, s.status,
               s.finished_at as ended_at, s.due_at,
               case when s.status = 'open' then case s.kind when 'sleep' then 'its time' when 'fan_out' then 'its batches'
                   when 'child' then 'the run it started' when 'signal' then 'signal ' || substring(s.path from '[^:]*$')
                   else 'its next try' end end as waits_for,
               coalesce(s.attempts, 0) + case when s.status = 'completed' then 1 else 0 end as tries,
               octet_length(s.result) as size, case when with_values then convert_from(s.result, 'UTF8') end as value,
               c.id as other_run, s.claim_token as token, null::uuid as replica, null as actor, null as reason
          from lockgate.run_steps s
          left join lockgate.task_runs c on s.kind = 'child' and c.parent_id = s.run_id and c.parent_path = s.path
         where s.run_id = run
        union all
        select coalesce(t.since, t.at), case when t.since is null then 'change ' else 'claim ' end || lpad(t.id::text, 20, '0'),
               case when t.since is null then 'change' else 'claim' end, null, null, t.to_status,
               case when t.since is not null then t.at end, null, null, null, null, null, null, t.token, t.replica, t.actor, t.reason
          from lockgate.transitions t where t.run_id = run and t.entity = 'run'
        union all
        select r.created_at, 'change', 'change', null, null, 'queued', null, null, null, null, null, null, r.forked_from, null, null,
               r.actor, null
          from lockgate.task_runs r
         where r.id = run and not exists (
               select from lockgate.transitions t where t.run_id = run and t.entity = 'run' and t.from_status is null)
        union all
        select r.claimed_at, 'claim held', 'claim', null, null, 'held', null, r.lease_until, null, null, null, null, null, r.claim_token,
               r.claimed_by, null, null
          from lockgate.task_runs r where r.id = run and r.claim_id is not null
        union all
        select g.created_at, 'signal ' || lpad(g.seq::text, 20, '0'), 'signal', g.name, null,
               case when g.consumed_by is null then 'waiting' else 'taken' end, null, null, null, null, octet_length(g.payload),
               case when with_values then convert_from(g.payload, 'UTF8') end, null, null, null, g.actor,
               'by step ' || g.consumed_by
          from lockgate.signals g where g.run_id = run
        union all
        select f.created_at, 'fork ' || f.id, 'fork', f.workflow, null, f.status, f.finished_at, null, null, null, null, null, f.id, null,
               null, f.actor, null
          from lockgate.task_runs f where f.forked_from = run
      ) x
     where after is null or (x.at, x.key collate "C") > (after_at, after_key)
     order by x.at, x.key collate "C"
     limit least(greatest(page, 1), 1000);
end $$;
comment on function lockgate.run_timeline(uuid, text, integer, boolean) is
    'How a run went: its steps, claims, changes, signals, and the runs made of it, in order of their begin, at most 1,000 behind a cursor; what steps returned and signals told only with with_values';

create function lockgate.backfill_schedule(name text, slots timestamptz[], at_once integer default 1,
    dry_run boolean default false, actor text default null, behind timestamptz[] default null)
returns table (slot timestamptz, outcome text, run_id uuid)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    plan lockgate.schedules;
    started record;
    new bigint := 0;
    i integer;
begin
    select * into plan from lockgate.schedules s where s.name = backfill_schedule.name for share;
    if not found then
        raise exception 'backfill_schedule: there is no schedule %; nothing was started', backfill_schedule.name
            using errcode = 'no_data_found';
    end if;
    if cardinality(slots) > 500 or at_once < 1 or cardinality(coalesce(behind, slots)) <> cardinality(slots) then
        raise exception 'backfill_schedule: give at most 500 slots and let at least one run at once; nothing was started'
            using errcode = 'invalid_parameter_value';
    end if;
    for i in 1 .. coalesce(cardinality(slots), 0) loop
        slot := slots[i];
        if slot >= clock_timestamp() then
            raise exception 'backfill_schedule: slot % is not past; nothing was started', slot
                using errcode = 'invalid_parameter_value', hint = 'it fires by itself';
        end if;
        select r.id into run_id from lockgate.task_runs r where r.schedule = plan.name and r.slot = slots[i];
        outcome := case when run_id is null then 'missing' else 'found' end;
        if outcome = 'missing' and not dry_run then
            select s.outcome, s.run_id into started from lockgate.try_start_new_run(
                p_id => lockgate.new_id(), p_workflow => plan.workflow, p_params => plan.params, p_driven_by => 'engine',
                p_singleton_key => null, p_idempotency_key => null, p_schedule => plan.name, p_slot => slots[i],
                p_wake_at => null, p_pace_per_s => plan.pace_per_s, p_deadline => plan.run_deadline, p_origin_id => null,
                p_traceparent => null, p_leader_term => null, p_actor => lockgate.acting_user(backfill_schedule.actor)) s;
            outcome := started.outcome;
            run_id := started.run_id;
            -- So many chains: each run waits until the one so many places before it is over.
            update lockgate.task_runs r
               set after_run = (select e.id from lockgate.task_runs e
                                 where e.schedule = plan.name and e.finished_at is null
                                   and e.slot = case when behind is null then slots[i - at_once] else behind[i] end)
             where outcome = 'new' and r.id = run_id;
            new := new + (outcome = 'new')::integer;
        end if;
        return next;
    end loop;
    if new > 0 then
        insert into lockgate.transitions (entity, key, from_status, to_status, actor, reason)
        select 'schedule', plan.name, s.state, s.state, lockgate.acting_user(backfill_schedule.actor),
               format('%s runs for slots from %s to %s that had none', new, slots[1], slots[cardinality(slots)])
          from (select case when plan.paused_at is null then 'active' else 'paused' end as state) s;
    end if;
end $$;
comment on function lockgate.backfill_schedule(text, timestamptz[], integer, boolean, text, timestamptz[]) is
    'Starts a run for each of these past slots of a schedule that has none, so many at once: each waits for the one of the slot so many places before it, or for that of the slot named in behind; answers for each slot new, found or, when dry, missing';

do $$
declare
    role text;
begin
    execute (select string_agg(format('revoke all on function %s from public', p.oid::regprocedure), ';')
               from pg_proc p where p.pronamespace = 'lockgate'::regnamespace and p.proname in ('step_place', 'step_order',
                    'steps_before', 'find_step', 'start_run', 'merged_attributes', 'repeat_run', 'repeated', 'retry_run', 'fork_run', 'run_timeline', 'backfill_schedule'));
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator') loop
        execute format('grant execute on function
            lockgate.repeat_run(uuid, uuid, text, text, bytea, boolean, text, text), lockgate.retry_run(uuid, text, text, text),
            lockgate.fork_run(uuid, jsonb, text, boolean, text, text),
            lockgate.run_timeline(uuid, text, integer, boolean),
            lockgate.backfill_schedule(text, timestamptz[], integer, boolean, text, timestamptz[]) to %I', role);
    end loop;
    if exists (select 1 from pg_roles where rolname = 'lockgate_engine') then
        grant execute on function lockgate.merged_attributes(jsonb, jsonb) to lockgate_engine;
    end if;
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator', 'lockgate_sender') loop
        execute format('grant execute on function lockgate.start_run(text, jsonb, text, text, timestamptz, integer, interval,
            jsonb, text, integer, text, text, text) to %I', role);
    end loop;
    if exists (select 1 from pg_roles where rolname = 'lockgate_reader') then
        grant execute on function lockgate.run_timeline(uuid, text, integer, boolean) to lockgate_reader;
        grant select (parent_id, parent_path, depth, continued_as, undoing, tenant, limit_key, attributes, forked_from, repeats_slot,
            nominal_at) on lockgate.task_runs to lockgate_reader;
        -- Everything but the result, which may hold personal data.
        revoke select on lockgate.run_steps from lockgate_reader;
        grant select (run_id, path, kind, status, consistent, plan_cursor, planned_items, planned_batches, planned_at, plan_trouble,
            started_at, finished_at, due_at, attempts, claim_token) on lockgate.run_steps to lockgate_reader;
    end if;
end $$;
