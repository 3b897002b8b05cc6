do $$
declare
    was text := pg_get_functiondef('lockgate.act_on_runs(text, jsonb, text, text, boolean, integer, uuid)'::regprocedure);
    new text := E'        -- What is left of a page that takes long is another call''s: a timeout would undo all of it, each time.\n'
        || E'        stopped := clock_timestamp() > statement_timestamp() + interval ''4 seconds'';\n'
        || E'        exit when stopped;\n';
begin
    if strpos(was, new) = 0 then raise exception 'act_on_runs is not as it was'; end if;
    execute replace(was, new, '');
end $$;

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

create or replace function lockgate.steps_before(p_run uuid, p_from text[]) returns setof text
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

create or replace function lockgate.repeat_run(
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
        born + (was.deadline_at - coalesce(was.start_at, was.created_at)), born, born - was.priority * interval '15 seconds', told, lockgate.trace_link(p_run, was.traceparent),
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
    insert into lockgate.untold (run_id, started_by) values (p_id, 'repeat');
    perform pg_notify('lockgate_wake', 'run');
    outcome := 'new';
    run_id := p_id;
    detail := roots[1];
end $$;

drop function lockgate.lost_steps(uuid);
revoke all on function lockgate.step_place(text), lockgate.step_order(integer[], integer[]) from public;
