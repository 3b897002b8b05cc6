do $$
declare
    name text;
begin
    foreach name in array array['stop_children', 'stop_lost_children', 'is_needed'] loop
        execute (select replace(pg_get_functiondef(p.oid), 'and c.continued_as is null and c.finished_at is null',
                                'and c.finished_at is null')
                   from pg_proc p where p.pronamespace = 'lockgate'::regnamespace and p.proname = name);
    end loop;
end $$;

create or replace function lockgate.last_run(p_run uuid) returns uuid
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    last uuid := p_run;
    next uuid;
begin
    loop
        select r.continued_as into next from lockgate.task_runs r where r.id = last;
        if next is null then return last; end if;
        last := next;
    end loop;
end $$;

create or replace function lockgate.signal_run(
    run uuid, name text, payload jsonb default 'null', idempotency_key text default null, actor text default null)
returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    meant uuid := signal_run.run;
    next uuid;
    was text;
    waiting bigint;
begin
    if coalesce(signal_run.name, '') = '' or octet_length(signal_run.name) > 100 then
        raise exception 'signal_run: a name has 1 to 100 bytes; nothing was sent' using errcode = 'invalid_parameter_value';
    end if;
    if octet_length(convert_to(coalesce(signal_run.payload, 'null')::text, 'UTF8')) > 65536 then
        raise exception 'signal_run: the payload is larger than 64 KiB; nothing was sent' using errcode = 'program_limit_exceeded';
    end if;
    loop
        select r.status, r.continued_as into was, next from lockgate.task_runs r where r.id = meant;
        if next is null then
            -- The lock gives the signals of a run their order. Those that went on are only read: nothing of them changes.
            select r.status, r.continued_as into was, next from lockgate.task_runs r where r.id = meant for no key update;
        end if;
        if not found then return 'unknown'; end if;
        -- Known before over: who asks again because an answer was lost hears that it was sent.
        if signal_run.idempotency_key is not null then
            perform from lockgate.signals s
             where s.run_id = meant and s.idempotency_key = signal_run.idempotency_key;
            if found then return 'known'; end if;
        end if;
        exit when next is null;
        meant := next;
    end loop;
    if was in ('completed', 'failed', 'cancelled') then return was; end if;
    select count(*) into waiting
      from (select from lockgate.signals s where s.run_id = meant and s.consumed_by is null limit 1000) s;
    if waiting >= 1000 then return 'full'; end if;
    insert into lockgate.signals (run_id, seq, name, payload, idempotency_key, actor)
    select meant, coalesce(max(s.seq), 0) + 1, signal_run.name,
           convert_to(coalesce(signal_run.payload, 'null')::text, 'UTF8'), signal_run.idempotency_key,
           lockgate.acting_user(signal_run.actor)
      from lockgate.signals s where s.run_id = meant;
    perform lockgate.wake_run(meant);
    perform pg_notify('lockgate_wake', 'run');
    return 'sent';
end $$;

drop function lockgate.hold_last_run(uuid);

create unique index signals_one_per_run on lockgate.signals (run_id, idempotency_key) where idempotency_key is not null;
drop index lockgate.signals_one_per_key;
alter index lockgate.signals_one_per_run rename to signals_one_per_key;
create index task_runs_by_parent on lockgate.task_runs (parent_id, parent_path) where parent_id is not null;
drop index lockgate.task_runs_children;
alter index lockgate.task_runs_by_parent rename to task_runs_children;

alter table lockgate.signals drop column chain;
alter table lockgate.task_runs drop column chain;
