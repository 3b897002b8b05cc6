-- A run that is to start at no time is refused: at infinity it would wait for ever, and nobody would be told.
do $$
declare
    was text;
begin
    select pg_get_functiondef(p.oid) into strict was from pg_proc p
     where p.pronamespace = 'lockgate'::regnamespace and p.proname = 'start_run';
    if strpos(was, '    select * into started') = 0 then raise exception 'start_run is not as it was'; end if;
    execute replace(was, '    select * into started', $check$    if not isfinite(start_at) then
        raise exception 'start_run: start_at is %; nothing was started', start_at
            using errcode = 'invalid_parameter_value', hint = 'give a time, or null to start at once';
    end if;
    select * into started$check$);
end $$;
