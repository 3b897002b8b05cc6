-- What a run's code shows to whoever looks at it is a step: recorded once at its place, with the other checkpoints.

-- Every kind of before is one still: no row need be looked at.
alter domain lockgate.step_kind drop constraint step_kind_check;
alter domain lockgate.step_kind add constraint step_kind_check check (value in ('fan_out', 'step', 'undoable', 'transaction',
    'sleep', 'signal', 'child', 'version', 'select', 'publish', 'show')) not valid;
comment on column lockgate.run_steps.kind is
    'fan_out: covers many items; step, undoable, transaction: code; sleep, signal, child: waits; version, select: decisions; publish: a command; show: a value for whoever looks';

-- No index: a run's steps are read by its key, and an index is opened by every checkpoint.
create function lockgate.shown(run uuid, under text default null)
returns table (name text, value jsonb, at timestamptz)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select distinct on (n.of) n.of, convert_from(s.result, 'UTF8')::jsonb, s.finished_at
      from lockgate.run_steps s
     cross join lateral (select substring(s.path from '^(?:.*/)?\d+:(.*)$') as of) n
     where s.run_id = shown.run and s.kind = 'show' and s.status = 'completed' and (shown.under is null or n.of = shown.under)
     order by n.of, s.finished_at desc, length(s.path) desc, s.path desc
     limit 100
$$;
comment on function lockgate.shown(uuid, text) is
    'What a run''s code shows with ctx.show, by key: the newest value of each name, or of one, and since when; a hundred at most';

do $$
declare
    role text;
begin
    revoke all on function lockgate.shown(uuid, text) from public;
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator', 'lockgate_reader') loop
        execute format('grant execute on function lockgate.shown(uuid, text) to %I', role);
    end loop;
end $$;
