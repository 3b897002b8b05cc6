-- What a run begins with that does another one again: what was dropped is no result, what a branch did that lost a select
-- counts only where that select is done again, and only what is undone was taken back. In time that grows with the steps.

create function lockgate.lost_steps(p_run uuid) returns table (path text, at integer)
language sql stable set search_path = pg_catalog, pg_temp set enable_nestloop = off set jit = off as $$
    with winners as materialized (
        select w.path, convert_from(w.result, 'UTF8') as branch
          from lockgate.run_steps w where w.run_id = p_run and w.kind = 'select' and w.status = 'completed'
    ), parts as (
        select s.path, string_to_array(regexp_replace(s.path, '^undo/', ''), '/') as parts
          from lockgate.run_steps s where s.run_id = p_run
    ), above as (
        -- Each branch adds two parts to a path: its place and its own number.
        select p.path, p.parts, generate_series(1, cardinality(p.parts) - 2, 2) as at from parts p
    )
    select a.path, max(a.at)
      from above a
      join winners w on w.path = array_to_string(a.parts[:a.at], '/')
     where w.branch <> a.parts[a.at + 1]
     group by a.path
$$;
comment on function lockgate.lost_steps(uuid) is
    'Steps of a run, and what undoes them, in branches that lost a select, each with how many parts of its path name the innermost such select';

create or replace function lockgate.steps_before(p_run uuid, p_from text[]) returns setof text
-- Nobody knows beforehand how many steps there are at a place: joined by hashes it is linear whatever is guessed.
language sql stable set search_path = pg_catalog, pg_temp set enable_nestloop = off set jit = off as $$
    with recursive steps as materialized (
        -- A place is the numbers of a path: ordinal, then branch and ordinal for each branch; null for what has no ordinal.
        select s.path, s.kind, s.status, s.started_at, s.path ~ '^undo(/|$)' as undo, l.at as lost_at,
               string_to_array(regexp_replace(regexp_replace(regexp_replace(s.path, '^undo/', ''), '(^|/)[^0-9/][^/]*', '\1-', 'g'),
                                              '([0-9]+)[^/]*', '\1', 'g'), '/', '-')::integer[] as place
          from lockgate.run_steps s
          left join lockgate.lost_steps(p_run) l on l.path = s.path
         where s.run_id = p_run
    ), marked as materialized (
        select s.path, s.place, s.place[:s.lost_at] as lost_by, s.path = any (coalesce(p_from, '{}')) as named,
               -- What was taken back is done again; what could not be, stands.
               s.undo and s.status = 'completed' and s.path <> 'undo' as undone
          from steps s
         where s.path = any (coalesce(p_from, '{}')) or s.status = case when s.undo then 'completed' else 'failed' end and s.path <> 'undo'
    ), base as (
        select m.path, m.place from marked m where m.named or (m.undone and m.lost_by is null)
    ), heads as materialized (
        -- The joins and selects above a place, each with the branch that it lies in.
        select p.path, p.place[:p.at] as head, p.place[p.at + 1] as branch
          from (select m.path, m.place, generate_series(1, cardinality(m.place) - 2, 2) as at from marked m) p
    ), forks as (
        select h.head, min(h.branch) as least, max(h.branch) as most from base b join heads h on h.path = b.path group by h.head
    ), beside as (
        -- What failed in another branch is done again too.
        select distinct m.path, m.place
          from marked m
          join heads h on h.path = m.path
          join forks f on f.head = h.head
         where not m.named and not m.undone and m.lost_by is null and (h.branch <> f.least or h.branch <> f.most)
    ), again as (
        -- Selects that are decided again: what the branches did that had lost them counts.
        select h.head from (select path from base union select path from beside) r join heads h on h.path = r.path
        union
        select h.head from again a join marked m on m.lost_by = a.head join heads h on h.path = m.path
    ), roots as (
        select place from base
        union select place from beside
        union select m.place from marked m join again a on a.head = m.lost_by
    ), edges as (
        -- In each branch the first place from which on all is done again, and whether that is itself a root.
        select distinct on (e.prefix) e.prefix, e.ordinal, e.ends
          from (select r.place[:r.at - 1] as prefix, r.place[r.at] as ordinal, r.at = cardinality(r.place) as ends
                  from (select place, generate_series(1, cardinality(place), 2) as at from roots) r) e
         order by e.prefix, e.ordinal, e.ends desc
    ), judged as (
        select o.path,
               bool_or(o.ordinal > e.ordinal or (o.ordinal = e.ordinal and (o.ends or e.ends))) as behind,
               bool_or(o.ordinal is null and e.prefix is not null) as unknown
          from (select s.path, s.place[:s.at - 1] as prefix, s.place[s.at] as ordinal, s.at = cardinality(s.place) as ends
                  from (select path, place, generate_series(1, cardinality(place), 2) as at from steps where not undo) s) o
          left join edges e on e.prefix = o.prefix
         group by o.path
    ), cut as (
        select min(s.started_at) as at from judged j join steps s on s.path = j.path where j.behind
    ), kept as (
        select s.path
          from judged j
          join steps s on s.path = j.path
         where not coalesce(j.behind, false)
           -- Of what has no ordinal the clock tells whether it came before.
           and (not j.unknown or s.started_at <= coalesce((select cut.at from cut), s.started_at))
           and (s.status in ('completed', 'failed')
                -- Nobody knows what was dropped; but a child that is nobody's is not started twice.
                or (s.status = 'dropped' and s.kind = 'child'
                    and s.path in (select c.parent_path from lockgate.task_runs c where c.parent_id = p_run and c.detached)))
    )
    select k.path from kept k
    union all
    -- What a branch took back that lost a select is not taken back once more.
    select u.path from kept k join steps u on u.path = 'undo/' || k.path where u.status = 'completed'
$$;
comment on function lockgate.steps_before(uuid, text[]) is
    'Paths of the ended steps of a run that what is done from these places on does not touch, and of what undid them';

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
        -- The step of which it failed, in no branch that lost a select; without one its code goes on where the record ends.
        select array[s.path] into roots from lockgate.run_steps s
         where s.run_id = p_run and s.status = 'failed' and s.path !~ '^undo(/|$)'
           and s.path not in (select l.path from lockgate.lost_steps(p_run) l)
         order by s.finished_at desc, s.path limit 1;
    end if;
    if p_how = 'retry' or p_from is not null then
        kept := array(select b.path from lockgate.steps_before(p_run, roots) b (path));
    end if;
    if p_params is null then
        select count(*) into told from lockgate.signals s
         where s.run_id = p_run and not exists (select from unnest(kept) k (path) where k.path = s.consumed_by);
    end if;
    origin := case when p_keep_ids then was.origin_id else p_id end;
    insert into lockgate.task_runs (id, workflow, queue, priority, status, driven_by, params, origin_id, seed_id, singleton_key,
        pace_per_s, deadline_at, wake_at, rank, wake_seq, traceparent, tenant, limit_key, attributes, forked_from, repeats_slot,
        nominal_at, code_version, started_at, actor, created_at)
    values (p_id, was.workflow, was.queue, was.priority, 'queued', 'engine', coalesce(p_params, was.params), origin,
        nullif(coalesce(was.seed_id, was.origin_id), origin), was.singleton_key, was.pace_per_s,
        born + (was.deadline_at - coalesce(was.start_at, was.created_at)), born, born - was.priority * interval '15 seconds', told,
        lockgate.trace_link(p_run, was.traceparent), was.tenant, was.limit_key, was.attributes, p_run, coalesce(was.slot, was.repeats_slot),
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
      from unnest(kept) k (path)
      join lockgate.run_steps s on s.run_id = p_run and s.path = k.path;
    if told > 0 then
        insert into lockgate.signals (run_id, seq, name, payload, idempotency_key, actor, created_at)
        select p_id, s.seq, s.name, s.payload, s.idempotency_key, s.actor, s.created_at from lockgate.signals s
         where s.run_id = p_run and not exists (select from unnest(kept) k (path) where k.path = s.consumed_by);
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

drop function lockgate.step_order(integer[], integer[]);
drop function lockgate.step_place(text);

do $$
declare
    was text := pg_get_functiondef('lockgate.act_on_runs(text, jsonb, text, text, boolean, integer, uuid)'::regprocedure);
    before text := E'    end loop;\n    if matched < page and not stopped';
    new text := E'        -- What is left of a page that takes long is another call''s: a timeout would undo all of it, each time.\n'
        || E'        stopped := clock_timestamp() > statement_timestamp() + interval ''4 seconds'';\n'
        || E'        exit when stopped;\n';
begin
    if strpos(was, before) = 0 then raise exception 'act_on_runs is not as it was'; end if;
    execute replace(was, before, new || before);
end $$;

revoke all on function lockgate.lost_steps(uuid) from public;
