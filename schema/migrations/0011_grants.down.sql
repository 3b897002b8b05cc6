do $$
declare
    role text;
begin
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator', 'lockgate_reader') loop
        execute format('revoke all on all tables in schema lockgate from %I', role);
        execute format('revoke all on all functions in schema lockgate from %I', role);
        execute format('revoke all on schema lockgate from %I', role);
    end loop;
end $$;
