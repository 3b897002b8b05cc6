do $$
declare
    change record;
begin
    for change in select pg_get_functiondef(p.oid) as was from pg_proc p
                   where p.pronamespace = 'lockgate'::regnamespace
                     and p.proname in ('start_run', 'repeat_run', 'backfill_schedule', 'settle_stop') loop
        execute regexp_replace(change.was, E' *insert into lockgate\\.untold [^\\n]*\\n', '', 'g');
    end loop;
end $$;
drop table lockgate.untold;
