do $$
declare
    role text;
begin
    for role in select rolname from pg_roles where rolname in ('lockgate_operator', 'lockgate_reader') loop
        execute format('revoke execute on function lockgate.waited_for(uuid) from %I', role);
    end loop;
end $$;
alter table lockgate.replicas drop column replays;
