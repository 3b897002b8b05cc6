-- Whoever asks for the first of the runs that went on in one another's place finds the last by one look-up, however many
-- there are between.

-- Null for the first and for runs that never went on: their rows stay as short as they are.
alter table lockgate.task_runs add column chain uuid;
comment on column lockgate.task_runs.chain is
    'The first of the runs that went on in one another''s place up to it, whether that is still there or not; null: itself';
alter table lockgate.signals add column chain uuid;
comment on column lockgate.signals.chain is 'What the run''s chain was when it was told; null: the run itself';

with recursive chains as (
    select r.continued_as as id, r.id as chain
      from lockgate.task_runs r
     where r.continued_as is not null and not exists (select from lockgate.task_runs b where b.id = r.continues)
    union all
    select r.continued_as, c.chain from chains c join lockgate.task_runs r on r.id = c.id where r.continued_as is not null
)
update lockgate.task_runs r set chain = c.chain from chains c where r.id = c.id;
update lockgate.signals s set chain = r.chain from lockgate.task_runs r where r.id = s.run_id and r.chain is not null;

-- last_run: the last of a chain.
create index task_runs_chain on lockgate.task_runs (chain) where chain is not null and continued_as is null;
-- As task_runs_children was, which this replaces; of those that went on in one another's place the last is one look-up.
create index task_runs_by_parent on lockgate.task_runs (parent_id, parent_path, continued_as) where parent_id is not null;
drop index lockgate.task_runs_children;
alter index lockgate.task_runs_by_parent rename to task_runs_children;
-- signal_run: as signals_one_per_key was, for all the runs of a chain.
create unique index signals_one_per_chain on lockgate.signals ((coalesce(chain, run_id)), idempotency_key)
    where idempotency_key is not null;
drop index lockgate.signals_one_per_key;
alter index lockgate.signals_one_per_chain rename to signals_one_per_key;

create or replace function lockgate.last_run(p_run uuid) returns uuid
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    last uuid := p_run;
    next uuid;
    first uuid;
begin
    loop
        select r.continued_as, coalesce(r.chain, r.id) into next, first from lockgate.task_runs r where r.id = last;
        if next is null then return last; end if;
        -- Link by link only where the last was deleted, or a release that writes no chain went on in between.
        last := coalesce((select l.id from lockgate.task_runs l where l.chain = first and l.continued_as is null limit 1), next);
    end loop;
end $$;

create function lockgate.hold_last_run(p_run uuid) returns lockgate.task_runs
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    held lockgate.task_runs;
begin
    loop
        select * into held from lockgate.task_runs r
         where r.id = lockgate.last_run(coalesce(held.id, p_run)) for no key update;
        -- Another may have taken its place while this waited for its row.
        exit when not found or held.continued_as is null;
    end loop;
    return held;
end $$;
comment on function lockgate.hold_last_run(uuid) is
    'Locks a run, or the one that goes on in its place when it is locked; all null: there is none';
revoke all on function lockgate.hold_last_run(uuid) from public;

create or replace function lockgate.signal_run(
    run uuid, name text, payload jsonb default 'null', idempotency_key text default null, actor text default null)
returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    told lockgate.task_runs;
    waiting bigint;
begin
    if coalesce(signal_run.name, '') = '' or octet_length(signal_run.name) > 100 then
        raise exception 'signal_run: a name has 1 to 100 bytes; nothing was sent' using errcode = 'invalid_parameter_value';
    end if;
    if octet_length(convert_to(coalesce(signal_run.payload, 'null')::text, 'UTF8')) > 65536 then
        raise exception 'signal_run: the payload is larger than 64 KiB; nothing was sent' using errcode = 'program_limit_exceeded';
    end if;
    -- The lock gives the signals of a run their order.
    told := lockgate.hold_last_run(signal_run.run);
    if told.id is null then return 'unknown'; end if;
    -- Known before over: who asks again because an answer was lost hears that it was sent.
    if signal_run.idempotency_key is not null then
        perform from lockgate.signals s
         where coalesce(s.chain, s.run_id) in (told.chain, told.id) and s.idempotency_key = signal_run.idempotency_key;
        if found then return 'known'; end if;
    end if;
    if told.status in ('completed', 'failed', 'cancelled') then return told.status; end if;
    select count(*) into waiting
      from (select from lockgate.signals s where s.run_id = told.id and s.consumed_by is null limit 1000) s;
    if waiting >= 1000 then return 'full'; end if;
    insert into lockgate.signals (run_id, seq, name, payload, idempotency_key, actor, chain)
    select told.id, coalesce(max(s.seq), 0) + 1, signal_run.name,
           convert_to(coalesce(signal_run.payload, 'null')::text, 'UTF8'), signal_run.idempotency_key,
           lockgate.acting_user(signal_run.actor), told.chain
      from lockgate.signals s where s.run_id = told.id;
    perform lockgate.wake_run(told.id);
    perform pg_notify('lockgate_wake', 'run');
    return 'sent';
end $$;

-- Nothing that went on is to be stopped, or awaited: said so that the index passes it by.
do $$
declare
    name text;
    was text;
begin
    foreach name in array array['stop_children', 'stop_lost_children', 'is_needed'] loop
        select pg_get_functiondef(p.oid) into strict was from pg_proc p
         where p.pronamespace = 'lockgate'::regnamespace and p.proname = name;
        if strpos(was, 'and c.finished_at is null and c.stop_status is null') = 0 then
            raise exception '% is not as it was', name;
        end if;
        execute replace(was, 'and c.finished_at is null and c.stop_status is null',
                        'and c.continued_as is null and c.finished_at is null and c.stop_status is null');
    end loop;
end $$;

do $$ begin
    if exists (select from pg_roles where rolname = 'lockgate_reader') then
        grant select (chain) on lockgate.task_runs to lockgate_reader;
    end if;
end $$;
