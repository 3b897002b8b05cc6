-- Objects belong to lockgate_owner where the cluster has that role and we may become it.
do $$ begin
    if exists (select 1 from pg_roles where rolname = 'lockgate_owner') and pg_has_role('lockgate_owner', 'member') then
        if not has_database_privilege('lockgate_owner', current_database(), 'create') and pg_has_role(current_user, 'lockgate_owner', 'member') then
            begin
                execute format('grant create on database %I to lockgate_owner', current_database());
            exception when insufficient_privilege then null;
            end;
        end if;
        set local role lockgate_owner;
    end if;
end $$
