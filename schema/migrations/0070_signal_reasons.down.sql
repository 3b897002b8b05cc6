drop function lockgate.signal_run(uuid, text, jsonb, text, text, text);
create function lockgate.signal_run(
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
comment on function lockgate.signal_run(uuid, text, jsonb, text, text) is
    'Tells a run something and wakes it; answers sent, known (the key was sent before), unknown (no such run), full (a thousand wait), or the state of a run that is over';

do $$
declare
    role text;
begin
    revoke all on function lockgate.signal_run(uuid, text, jsonb, text, text) from public;
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator') loop
        execute format('grant execute on function lockgate.signal_run(uuid, text, jsonb, text, text) to %I', role);
    end loop;
end $$;
