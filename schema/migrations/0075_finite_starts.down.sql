-- As 0034 and 0044 made it.
do $$
declare
    was text;
begin
    select pg_get_functiondef(p.oid) into strict was from pg_proc p
     where p.pronamespace = 'lockgate'::regnamespace and p.proname = 'start_run';
    execute replace(was, $check$    if not isfinite(start_at) then
        raise exception 'start_run: start_at is %; nothing was started', start_at
            using errcode = 'invalid_parameter_value', hint = 'give a time, or null to start at once';
    end if;
$check$, '');
end $$;
