-- Roles, once per cluster, safe to run again: `lockgate migrate roles`, by a superuser or whoever may create roles.
-- Logins get their passwords elsewhere (alter role … password, a secret store), never from this file.
do $$
declare
    wanted text;
begin
    foreach wanted in array array['lockgate_owner', 'lockgate_migrator', 'lockgate_engine', 'lockgate_operator', 'lockgate_reader',
        'lockgate_sender'] loop
        if not exists (select 1 from pg_roles where rolname = wanted) then
            begin
                execute format('create role %I', wanted);
            exception when duplicate_object or unique_violation then null; -- made by someone else this moment
            end;
        end if;
    end loop;
end $$;
-- owner: owns the schema, nobody logs in as it. migrator: may become it, and must say so.
alter role lockgate_owner nologin;
alter role lockgate_migrator login noinherit connection limit 4;
grant lockgate_owner to lockgate_migrator;
-- engine: the replicas. operator: acts through functions. reader: dashboards, no inputs or payloads. sender: granted to
-- the roles of services that hand over commands and start runs; nobody logs in as it.
alter role lockgate_sender nologin;
alter role lockgate_engine login connection limit 200;
alter role lockgate_operator login connection limit 10;
alter role lockgate_reader login connection limit 20;
-- A dead or frozen client must not keep its locks.
alter role lockgate_engine set statement_timeout = '30s';
alter role lockgate_engine set lock_timeout = '5s';
alter role lockgate_engine set idle_in_transaction_session_timeout = '10s';
alter role lockgate_engine set client_connection_check_interval = '2s';
alter role lockgate_engine set tcp_user_timeout = '10s';
alter role lockgate_engine set tcp_keepalives_idle = 10;
alter role lockgate_engine set tcp_keepalives_interval = 5;
alter role lockgate_engine set tcp_keepalives_count = 3;
alter role lockgate_engine set synchronous_commit = 'on';
alter role lockgate_reader set default_transaction_read_only = on;
alter role lockgate_reader set statement_timeout = '5s';
alter role lockgate_operator set statement_timeout = '10s';
-- Short questions over many small parts: compiling them takes longer than answering them.
alter role lockgate_engine set jit = off;
alter role lockgate_operator set jit = off;
alter role lockgate_reader set jit = off;
-- old_snapshots sees everybody's sessions by this; where it cannot be granted, only those of roles that the owner is in.
do $$ begin
    grant pg_read_all_stats to lockgate_owner;
exception when insufficient_privilege then
    raise notice 'lockgate_owner has not got pg_read_all_stats: v_snapshots sees less';
end $$;
comment on role lockgate_owner is 'Owns the schema lockgate';
comment on role lockgate_migrator is 'Runs migrations as lockgate_owner';
comment on role lockgate_engine is 'The replicas';
comment on role lockgate_operator is 'Operators: read, and act through functions';
comment on role lockgate_reader is 'Dashboards: read, without inputs and payloads';
comment on role lockgate_sender is 'Services: enqueue commands and start runs, through functions, and nothing else';
