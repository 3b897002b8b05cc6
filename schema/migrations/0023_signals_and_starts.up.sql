-- Signals: what somebody outside tells a run, kept until a step of it takes them.
create table lockgate.signals (
    run_id uuid not null,
    seq bigint not null,
    name text not null check (name <> '' and octet_length(name) <= 100),
    payload bytea not null check (octet_length(payload) <= 65536),
    idempotency_key text check (idempotency_key <> '' and octet_length(idempotency_key) <= 2000),
    actor text not null,
    created_at timestamptz not null default clock_timestamp(),
    consumed_by text collate "C",
    primary key (run_id, seq)
) with (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
alter table lockgate.signals alter column payload set storage external;
-- signal_run: a signal is sent once, however often it is asked for.
create unique index signals_one_per_key on lockgate.signals (run_id, idempotency_key) where idempotency_key is not null;
-- read_waiting_signals; signal_run counts them.
create index signals_waiting on lockgate.signals (run_id) where consumed_by is null;

comment on table lockgate.signals is 'What was told to runs from outside, in order of arrival; kept with the run';
comment on column lockgate.signals.run_id is 'To whom';
comment on column lockgate.signals.seq is 'Number in its run, in order of arrival';
comment on column lockgate.signals.name is 'Its name, for which the run waits';
comment on column lockgate.signals.payload is 'What is told, exact bytes of a JSON document';
comment on column lockgate.signals.idempotency_key is 'At most one signal of the run has this key';
comment on column lockgate.signals.actor is 'Who said so';
comment on column lockgate.signals.created_at is 'When it was stored';
comment on column lockgate.signals.consumed_by is 'Path of the step that took it; null: it waits';

create function lockgate.wake_run(p_run uuid) returns void
language sql volatile set search_path = pg_catalog, pg_temp as $$
    -- The statement of wake_runs, for one run whose row the caller has locked.
    update lockgate.task_runs r
       set wake_seq = r.wake_seq + 1,
           wake_at = case when n.wakes then n.at else r.wake_at end,
           rank = case when n.wakes then n.at - r.priority * interval '15 seconds' else r.rank end
      from (select clock_timestamp() as at, w.status in ('running', 'suspended') and w.driven_by = 'engine' as wakes
              from lockgate.task_runs w where w.id = p_run) n
     where r.id = p_run and r.finished_at is null
$$;
comment on function lockgate.wake_run(uuid) is
    'Wakes a run that is not over: its code runs again, or sees when it would wait that it was woken';

create function lockgate.signal_run(
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
comment on function lockgate.signal_run(uuid, text, jsonb, text, text) is
    'Tells a run something and wakes it; answers sent, known (the key was sent before), unknown (no such run), full (a thousand wait), or the state of a run that is over';

do $$
declare
    role text;
begin
    revoke all on lockgate.signals from public;
    revoke all on function lockgate.wake_run(uuid), lockgate.signal_run(uuid, text, jsonb, text, text) from public;
    if exists (select 1 from pg_roles where rolname = 'lockgate_engine') then
        grant select, insert, update on lockgate.signals to lockgate_engine;
        grant execute on function lockgate.wake_run(uuid) to lockgate_engine;
    end if;
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator') loop
        execute format('grant execute on function lockgate.signal_run(uuid, text, jsonb, text, text) to %I', role);
    end loop;
    -- Everything but the payload, which may hold personal data.
    for role in select rolname from pg_roles where rolname in ('lockgate_operator', 'lockgate_reader') loop
        execute format('grant select (run_id, seq, name, idempotency_key, actor, created_at, consumed_by)
            on lockgate.signals to %I', role);
    end loop;
end $$;
