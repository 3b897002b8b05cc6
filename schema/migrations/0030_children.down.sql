create or replace function lockgate.cancel_run(run uuid, reason text default 'cancelled by an operator', actor text default null)
returns text
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    select lockgate.request_stop(run, 'cancelled', reason, lockgate.acting_user(actor))
$$;

create or replace function lockgate.signal_run(
    run uuid, name text, payload jsonb default 'null', idempotency_key text default null, actor text default null)
returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    was text;
    waiting bigint;
begin
    if coalesce(signal_run.name, '') = '' or octet_length(signal_run.name) > 100 then
        raise exception 'signal_run: a name has 1 to 100 bytes; nothing was sent' using errcode = 'invalid_parameter_value';
    end if;
    if octet_length(convert_to(coalesce(signal_run.payload, 'null')::text, 'UTF8')) > 65536 then
        raise exception 'signal_run: the payload is larger than 64 KiB; nothing was sent' using errcode = 'program_limit_exceeded';
    end if;
    -- The lock gives the signals of a run their order.
    select r.status into was from lockgate.task_runs r where r.id = signal_run.run for no key update;
    if not found then return 'unknown'; end if;
    -- Known before over: who asks again because an answer was lost hears that it was sent.
    if signal_run.idempotency_key is not null then
        perform from lockgate.signals s
         where s.run_id = signal_run.run and s.idempotency_key = signal_run.idempotency_key;
        if found then return 'known'; end if;
    end if;
    if was in ('completed', 'failed', 'cancelled') then return was; end if;
    select count(*) into waiting
      from (select from lockgate.signals s where s.run_id = signal_run.run and s.consumed_by is null limit 1000) s;
    if waiting >= 1000 then return 'full'; end if;
    insert into lockgate.signals (run_id, seq, name, payload, idempotency_key, actor)
    select signal_run.run, coalesce(max(s.seq), 0) + 1, signal_run.name,
           convert_to(coalesce(signal_run.payload, 'null')::text, 'UTF8'), signal_run.idempotency_key,
           lockgate.acting_user(signal_run.actor)
      from lockgate.signals s where s.run_id = signal_run.run;
    perform lockgate.wake_run(signal_run.run);
    perform pg_notify('lockgate_wake', 'run');
    return 'sent';
end $$;

drop function lockgate.stop_children(uuid, integer);
drop function lockgate.wake_parent(uuid);
drop function lockgate.last_run(uuid);
drop index lockgate.run_steps_children;
drop index lockgate.task_runs_children;
alter table lockgate.task_runs drop column detached;
