do $$
declare
    after text := E'    perform pg_notify(''lockgate_wake'', ''schedule'');\n';
    was text := pg_get_functiondef('lockgate.audit_schedule()'::regprocedure);
begin
    if strpos(was, after) = 0 then raise exception 'audit_schedule is not as it was'; end if;
    execute replace(was, after, '');
end $$;
comment on function lockgate.audit_schedule() is 'Writes the audit of a schedule''s life';
