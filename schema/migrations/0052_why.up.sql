-- What `runs why` needs to name who could take a run, and for whom one waits.
alter table lockgate.replicas add column replays jsonb;
comment on column lockgate.replicas.replays is
    'Of each workflow the first and the last version whose runs it replays; null: a binary of before says nothing of it';

do $$
declare
    role text;
begin
    for role in select rolname from pg_roles where rolname in ('lockgate_operator', 'lockgate_reader') loop
        execute format('grant execute on function lockgate.waited_for(uuid) to %I', role);
    end loop;
end $$;
