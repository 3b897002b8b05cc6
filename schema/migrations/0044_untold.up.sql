-- What no process counts, because it was done in SQL: starts by the CLI, by other languages and in a caller's transaction,
-- and ends of runs whose code nobody was running. The leader takes these rows away and tells of them. Not logged: they
-- are for counters and traces, never for proof.
create unlogged table lockgate.untold (
    id bigint generated always as identity primary key,
    run_id uuid not null,
    started_by text check (started_by in ('schedule', 'cli', 'rust', 'sql', 'repeat')),
    ended_as text check (ended_as in ('completed', 'failed', 'cancelled', 'quarantined')),
    check (num_nonnulls(started_by, ended_as) = 1)
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500);
comment on table lockgate.untold is
    'Starts and ends of runs that were done in SQL, until the leader has counted them; a crash of the server empties it';
comment on column lockgate.untold.id is 'Order of writing';
comment on column lockgate.untold.run_id is 'The run';
comment on column lockgate.untold.started_by is 'Who started it; null: it has ended, or was set aside';
comment on column lockgate.untold.ended_as is 'What it was then; null: it was started';

do $$
declare
    change record;
    was text;
    role text;
begin
    for change in select * from (values
        ('start_run', E'    return started.run_id;\n', E'    insert into lockgate.untold (run_id, started_by) select started.run_id, ''sql'' where started.outcome = ''new'';\n'),
        ('repeat_run', E'    perform pg_notify(''lockgate_wake'', ''run'');\n    outcome := ''new'';\n', E'    insert into lockgate.untold (run_id, started_by) values (p_id, ''repeat'');\n'),
        ('backfill_schedule', E'            new := new + (outcome = ''new'')::integer;\n', E'            insert into lockgate.untold (run_id, started_by) select started.run_id, ''schedule'' where started.outcome = ''new'';\n'),
        ('settle_stop', E'    perform lockgate.wake_parent(p_run);\n', E'    insert into lockgate.untold (run_id, ended_as) values (p_run, was.stop_status);\n')) c (name, before, new)
    loop
        select pg_get_functiondef(p.oid) into strict was from pg_proc p
         where p.pronamespace = 'lockgate'::regnamespace and p.proname = change.name;
        if strpos(was, change.before) = 0 then raise exception '% is not as it was', change.name; end if;
        execute replace(was, change.before, change.new || change.before);
    end loop;
    revoke all on lockgate.untold from public;
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator') loop
        execute format('grant insert on lockgate.untold to %I', role);
    end loop;
    if exists (select from pg_roles where rolname = 'lockgate_engine') then
        grant select, delete on lockgate.untold to lockgate_engine;
    end if;
end $$;
