-- Whoever edits a schedule, also in plain SQL, rings the leader, which so need not look for edits all the time.
do $$
declare
    before text := E'    return null;\nend';
    was text := pg_get_functiondef('lockgate.audit_schedule()'::regprocedure);
begin
    if strpos(was, before) = 0 then raise exception 'audit_schedule is not as it was'; end if;
    -- What the leader itself writes changes no revision, and has returned above.
    execute replace(was, before, E'    perform pg_notify(''lockgate_wake'', ''schedule'');\n' || before);
end $$;
comment on function lockgate.audit_schedule() is 'Writes the audit of a schedule''s life, and rings the leader';
