-- What replicas count, a row a replica and minute, the small indexes by which people look, and trace contexts for SQL.
create table lockgate.replica_minutes (
    minute timestamptz not null,
    replica uuid not null,
    since timestamptz not null,
    items_delivered bigint not null,
    items_refused bigint not null,
    items_unknown bigint not null,
    items_passed_over bigint not null,
    batches bigint not null,
    runs_completed bigint not null,
    runs_failed bigint not null,
    steps bigint not null,
    commands_delivered bigint not null,
    commands_stored bigint not null,
    outbox_delivered bigint not null,
    redelivered bigint not null,
    dead bigint not null,
    leases_lost bigint not null,
    primary key (minute, replica)
) with (
    -- A replica's row is rewritten with each of its beats.
    fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500
);

comment on table lockgate.replica_minutes is 'What replicas counted, up to the last beat of each in each minute: for speed on dashboards, never for proof. A replica that is killed loses what it counted since its last beat';
comment on column lockgate.replica_minutes.minute is 'The minute, by the database''s clock';
comment on column lockgate.replica_minutes.replica is 'Who counted';
comment on column lockgate.replica_minutes.since is 'When that process began to count; all counts are since then';
comment on column lockgate.replica_minutes.items_delivered is 'Items of fan-outs that Kafka acknowledged';
comment on column lockgate.replica_minutes.items_refused is 'Items that can never go as they are';
comment on column lockgate.replica_minutes.items_unknown is 'Items stored because nobody knows whether they went';
comment on column lockgate.replica_minutes.items_passed_over is 'Items that were skipped or had vanished';
comment on column lockgate.replica_minutes.batches is 'Batches finished';
comment on column lockgate.replica_minutes.runs_completed is 'Runs that completed here';
comment on column lockgate.replica_minutes.runs_failed is 'Runs that failed, were cancelled or set aside here';
comment on column lockgate.replica_minutes.steps is 'Steps recorded here';
comment on column lockgate.replica_minutes.commands_delivered is 'Direct commands acknowledged';
comment on column lockgate.replica_minutes.commands_stored is 'Direct commands stored instead';
comment on column lockgate.replica_minutes.outbox_delivered is 'Commands of the outbox acknowledged';
comment on column lockgate.replica_minutes.redelivered is 'Undelivered messages acknowledged';
comment on column lockgate.replica_minutes.dead is 'Undelivered messages given up';
comment on column lockgate.replica_minutes.leases_lost is 'Leases of this replica that ended under it';

alter table lockgate.replicas add column clock_offset_s double precision;
comment on column lockgate.replicas.clock_offset_s is
    'The database''s clock less its own when it was last compared, in seconds; null: not yet';

-- v_stuck: runs that wait for a person.
create index task_runs_halted on lockgate.task_runs (status, id) where status in ('paused', 'quarantined');
-- v_failures
create index task_runs_failed on lockgate.task_runs (finished_at) where status in ('failed', 'cancelled');
-- v_terms, v_leader, v_invariants
create index transitions_of_leader on lockgate.transitions (id) where entity = 'leader';
-- v_acts
create index transitions_by_people on lockgate.transitions (id)
    where entity <> 'leader' and actor is not null and from_status is not null;
-- v_stuck
create index schedules_in_trouble on lockgate.schedules (name) where problem is not null;

create function lockgate.prune_measures(p_older_than interval, p_page integer) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    gone integer;
begin
    delete from lockgate.replica_minutes where (minute, replica) in
        (select minute, replica from lockgate.replica_minutes
          where minute < (select clock_timestamp()) - p_older_than
          order by minute limit p_page for update skip locked);
    get diagnostics gone = row_count;
    return gone;
end $$;
comment on function lockgate.prune_measures(interval, integer) is
    'Deletes up to a page of what replicas counted longer ago than that';

create function lockgate.throughput(p_from timestamptz, p_to timestamptz, p_step interval default '1 minute')
returns table ("time" timestamptz, whole boolean, replicas bigint,
    items_delivered bigint, items_refused bigint, items_unknown bigint, items_passed_over bigint, batches bigint,
    runs_completed bigint, runs_failed bigint, steps bigint, commands_delivered bigint, commands_stored bigint,
    outbox_delivered bigint, redelivered bigint, dead bigint, leases_lost bigint,
    items_delivered_per_s float8, items_refused_per_s float8, items_unknown_per_s float8, batches_per_s float8,
    runs_completed_per_s float8, runs_failed_per_s float8, steps_per_s float8, commands_delivered_per_s float8,
    commands_stored_per_s float8, outbox_delivered_per_s float8, redelivered_per_s float8, dead_per_s float8)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    -- Whole minutes a step, and at most 1,500 steps, whatever is asked for.
    with stepped as materialized (
        select greatest(60, ceil(extract(epoch from p_step) / 60) * 60,
                        ceil(extract(epoch from p_to - p_from) / 1500 / 60) * 60)::float8 as step
    ), asked as materialized (
        select to_timestamp(floor(extract(epoch from p_from) / s.step) * s.step) as first, s.step,
               least(floor(extract(epoch from p_to) / s.step) - floor(extract(epoch from p_from) / s.step), 1500)::integer as last
          from stepped s
    ), told as (
        -- Totals only grow, so the largest of a step is what had been counted at its end. What had been counted before the
        -- first step is in the row of the minute before, if the replica lived then.
        select floor(extract(epoch from m.minute - a.first) / a.step)::integer as n, m.replica, min(m.minute) as minute,
               min(m.since) as since,
               max(m.items_delivered) as items_delivered, max(m.items_refused) as items_refused, max(m.items_unknown) as items_unknown,
               max(m.items_passed_over) as items_passed_over, max(m.batches) as batches, max(m.runs_completed) as runs_completed,
               max(m.runs_failed) as runs_failed, max(m.steps) as steps, max(m.commands_delivered) as commands_delivered,
               max(m.commands_stored) as commands_stored, max(m.outbox_delivered) as outbox_delivered, max(m.redelivered) as redelivered,
               max(m.dead) as dead, max(m.leases_lost) as leases_lost
          from asked a
          join lockgate.replica_minutes m
            on m.minute >= a.first - interval '2 minutes' and m.minute < a.first + (a.last + 1) * a.step * interval '1 second'
         group by 1, m.replica
    ), counted as (
        select t.n, t.replica, t.minute, t.since, lag(t.n) over w as before,
               t.items_delivered - lag(t.items_delivered, 1, 0::bigint) over w as items_delivered,
               t.items_refused - lag(t.items_refused, 1, 0::bigint) over w as items_refused,
               t.items_unknown - lag(t.items_unknown, 1, 0::bigint) over w as items_unknown,
               t.items_passed_over - lag(t.items_passed_over, 1, 0::bigint) over w as items_passed_over,
               t.batches - lag(t.batches, 1, 0::bigint) over w as batches,
               t.runs_completed - lag(t.runs_completed, 1, 0::bigint) over w as runs_completed,
               t.runs_failed - lag(t.runs_failed, 1, 0::bigint) over w as runs_failed,
               t.steps - lag(t.steps, 1, 0::bigint) over w as steps,
               t.commands_delivered - lag(t.commands_delivered, 1, 0::bigint) over w as commands_delivered,
               t.commands_stored - lag(t.commands_stored, 1, 0::bigint) over w as commands_stored,
               t.outbox_delivered - lag(t.outbox_delivered, 1, 0::bigint) over w as outbox_delivered,
               t.redelivered - lag(t.redelivered, 1, 0::bigint) over w as redelivered,
               t.dead - lag(t.dead, 1, 0::bigint) over w as dead,
               t.leases_lost - lag(t.leases_lost, 1, 0::bigint) over w as leases_lost
          from told t
        window w as (partition by t.replica order by t.n)
    ), known as (
        -- The first total of a replica that had counted before is all it ever did, not what it did then.
        select c.* from counted c
         where c.n >= 0 and (c.before is not null or c.since >= c.minute - interval '1 minute')
    )
    select a.first + g.n * a.step * interval '1 second',
           a.first + (g.n + 1) * a.step * interval '1 second' <= date_trunc('minute', clock_timestamp()) - interval '1 minute',
           count(distinct k.replica),
           coalesce(sum(k.items_delivered), 0)::bigint, coalesce(sum(k.items_refused), 0)::bigint, coalesce(sum(k.items_unknown), 0)::bigint,
           coalesce(sum(k.items_passed_over), 0)::bigint, coalesce(sum(k.batches), 0)::bigint, coalesce(sum(k.runs_completed), 0)::bigint,
           coalesce(sum(k.runs_failed), 0)::bigint, coalesce(sum(k.steps), 0)::bigint, coalesce(sum(k.commands_delivered), 0)::bigint,
           coalesce(sum(k.commands_stored), 0)::bigint, coalesce(sum(k.outbox_delivered), 0)::bigint, coalesce(sum(k.redelivered), 0)::bigint,
           coalesce(sum(k.dead), 0)::bigint, coalesce(sum(k.leases_lost), 0)::bigint,
           (coalesce(sum(k.items_delivered), 0) / a.step)::float8, (coalesce(sum(k.items_refused), 0) / a.step)::float8,
           (coalesce(sum(k.items_unknown), 0) / a.step)::float8, (coalesce(sum(k.batches), 0) / a.step)::float8,
           (coalesce(sum(k.runs_completed), 0) / a.step)::float8, (coalesce(sum(k.runs_failed), 0) / a.step)::float8,
           (coalesce(sum(k.steps), 0) / a.step)::float8, (coalesce(sum(k.commands_delivered), 0) / a.step)::float8,
           (coalesce(sum(k.commands_stored), 0) / a.step)::float8, (coalesce(sum(k.outbox_delivered), 0) / a.step)::float8,
           (coalesce(sum(k.redelivered), 0) / a.step)::float8, (coalesce(sum(k.dead), 0) / a.step)::float8
      from asked a
     cross join lateral generate_series(0, a.last) g (n)
      left join known k on k.n = g.n
     group by a.first, a.step, g.n
     order by g.n
$$;
comment on function lockgate.throughput(timestamptz, timestamptz, interval) is
    'What was done in each step of a time, by what replicas counted: whole minutes a step, at most 1,500 of them; whole: nothing of that step is still to come';

create function lockgate.old_snapshots(p_older_than interval)
returns table (kind text, pid integer, who text, application text, state text, since timestamptz, age_s float8, xmin_age bigint)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    -- As the owner, who sees everybody's sessions if pg_read_all_stats was granted to it, and never what they ask.
    select *
      from (select 'session', a.pid, a.usename::text, a.application_name, a.state, a.xact_start,
                   extract(epoch from clock_timestamp() - a.xact_start)::float8, age(a.backend_xmin)::bigint
              from pg_stat_activity a
             where (a.backend_xmin is not null or a.backend_xid is not null) and a.datname = current_database()
               and a.backend_type = 'client backend' and a.pid <> pg_backend_pid()
               and a.xact_start < (select clock_timestamp()) - p_older_than
            union all
            select 'prepared', null, p.owner::text, p.gid, 'prepared', p.prepared,
                   extract(epoch from clock_timestamp() - p.prepared)::float8, age(p.transaction)::bigint
              from pg_prepared_xacts p
             where p.database = current_database() and p.prepared < (select clock_timestamp()) - p_older_than
            union all
            select 'slot', s.active_pid, s.slot_type, s.slot_name::text, case when s.active then 'active' else 'inactive' end,
                   null, null, age(coalesce(s.xmin, s.catalog_xmin))::bigint
              from pg_replication_slots s where coalesce(s.xmin, s.catalog_xmin) is not null)
           x (kind, pid, who, application, state, since, age_s, xmin_age)
     order by x.since nulls last limit 50
$$;
comment on function lockgate.old_snapshots(interval) is
    'Sessions, prepared transactions and replication slots that keep deleted rows from being cleared away for longer than that';

create function lockgate.is_traceparent(p_text text) returns boolean
language sql immutable strict set search_path = pg_catalog, pg_temp as $$
    select p_text ~ '^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$'
$$;
comment on function lockgate.is_traceparent(text) is 'Whether a text is a W3C trace context of version 00';

create function lockgate.given_traceparent(p_verb text, p_given text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    traceparent text := coalesce(p_given, nullif(current_setting('lockgate.traceparent', true), ''));
begin
    if not lockgate.is_traceparent(traceparent) then
        raise exception '%: traceparent is not a W3C trace context of version 00; nothing was done', p_verb
            using errcode = 'invalid_parameter_value', hint = 'such as 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
    end if;
    return traceparent;
end $$;
comment on function lockgate.given_traceparent(text, text) is
    'The trace context of a call: the one given, else the setting lockgate.traceparent of the transaction; null: none';

drop function lockgate.start_run(text, jsonb, text, text, timestamptz, integer, interval, jsonb, text, integer, text, text, text);
create function lockgate.start_run(
    workflow text, params jsonb default '{}', idempotency_key text default null, singleton_key text default null,
    start_at timestamptz default null, pace_per_s integer default null, deadline interval default null,
    attributes jsonb default null, queue text default null, priority integer default null, tenant text default null,
    limit_key text default null, debounce_key text default null, traceparent text default null)
returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    started record;
begin
    if coalesce(workflow, '') = '' then
        raise exception 'start_run: workflow is empty; nothing was started' using hint = 'name a workflow';
    end if;
    if jsonb_typeof(attributes) <> 'object' or octet_length(attributes::text) > 65536
       or exists (select from jsonb_each(attributes) a where jsonb_typeof(a.value) not in ('string', 'number', 'boolean')) then
        raise exception 'start_run: attributes are not an object of strings, numbers and booleans of at most 64 KiB; nothing was started'
            using errcode = 'invalid_parameter_value';
    end if;
    select * into started from lockgate.try_start_new_run(
        p_id => lockgate.new_id(), p_workflow => workflow, p_params => convert_to(coalesce(params, '{}')::text, 'UTF8'),
        p_driven_by => 'engine', p_singleton_key => singleton_key, p_idempotency_key => idempotency_key, p_schedule => null,
        p_slot => null, p_wake_at => start_at, p_pace_per_s => pace_per_s, p_deadline => deadline, p_origin_id => null,
        p_traceparent => lockgate.given_traceparent('start_run', traceparent), p_leader_term => null, p_actor => session_user::text, p_queue => queue,
        p_priority => priority::smallint, p_tenant => tenant, p_limit_key => limit_key, p_debounce_key => debounce_key,
        p_attributes => nullif(attributes, '{}'));
    if started.outcome = 'busy' then
        raise exception 'start_run: singleton key % is contended; nothing was started', singleton_key
            using errcode = 'lock_not_available', hint = 'try again';
    end if;
    return started.run_id;
end $$;
comment on function lockgate.start_run(text, jsonb, text, text, timestamptz, integer, interval, jsonb, text, integer, text, text,
    text, text) is
    'Starts a run of a workflow; the same idempotency key gives the same run; null when another run holds the singleton key';

drop function lockgate.enqueue_command(text, text, text, text, jsonb, text, text, timestamptz, bytea);
create function lockgate.enqueue_command(
    command_type text, payload text default null, key text default null, topic text default null,
    headers jsonb default '{}', correlation_id text default null, idempotency_key text default null,
    not_before timestamptz default null, payload_bytes bytea default null,
    traceparent text default null) returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    wrong text;
    id uuid;
    correlation text := coalesce(correlation_id, lockgate.new_id()::text);
    bytes bytea := coalesce(payload_bytes, convert_to(payload, 'UTF8'));
    named jsonb;
    trace text := lockgate.given_traceparent('enqueue_command', traceparent);
begin
    wrong := case
        when command_type is null or command_type !~ '^[A-Za-z0-9._-]{1,100}$' then
            'commandType is not 1 to 100 letters, digits, dots, underscores and hyphens'
        when (payload is null) = (payload_bytes is null) then 'payload and payloadBytes: give one of them'
        when octet_length(bytes) > 16777216 then 'payload is larger than 16 MiB'
        when topic !~ '^[A-Za-z0-9._-]{1,249}$' or topic in ('.', '..') then 'topic is not a name that a topic can have'
        when correlation = '' then 'correlationId is empty'
        when idempotency_key = '' then 'idempotencyKey is empty'
        when not isfinite(not_before) then 'notBefore is not a moment'
        when headers is not null and jsonb_typeof(headers) <> 'object' then 'headers is not a JSON object'
    end;
    if wrong is null and headers is not null then
        select case when h.key in ('message-id', 'correlation-id', 'crc32c') then format('headers holds %s, which is set for you', h.key)
                    when h.key = '' then 'headers holds one without a name'
                    else 'headers holds a value that is not a text' end into wrong
          from jsonb_each(headers) h
         where h.key in ('', 'message-id', 'correlation-id', 'crc32c') or jsonb_typeof(h.value) <> 'string'
         limit 1;
    end if;
    if wrong is null and payload is not null then
        begin
            perform payload::json;
        exception when others then
            wrong := 'payload is not JSON';
        end;
    end if;
    if wrong is not null then
        raise exception 'enqueue_command: %; nothing was enqueued', wrong using errcode = 'invalid_parameter_value';
    end if;
    select jsonb_build_array(jsonb_build_array('correlation-id', correlation))
           || coalesce(jsonb_agg(jsonb_build_array(h.key, h.value) order by h.key), '[]')
      into named
      from jsonb_each_text(jsonb_build_object('traceparent', trace) || coalesce(headers, '{}')) h
     where h.value is not null;
    id := coalesce(lockgate.keyed_id(command_type, idempotency_key), lockgate.new_id());
    perform lockgate.enqueue_commands(array[command_type], array[id], array[coalesce(topic, ':' || command_type)],
        array[convert_to(key, 'UTF8')], array[named::text], array[bytes], array[not_before]);
    return id;
end $$;
comment on function lockgate.enqueue_command(text, text, text, text, jsonb, text, text, timestamptz, bytea, text) is
    'Enqueues a command of any type in the caller''s transaction and answers its message id; the payload is JSON, or any bytes';

drop function lockgate.enqueue_email(text, text, jsonb, text, bigint, text, text, timestamptz);
create function lockgate.enqueue_email(
    recipient_email text, template_id text, template_context jsonb default '{}', locale text default 'en',
    user_id bigint default null, correlation_id text default null, idempotency_key text default null,
    not_before timestamptz default null, traceparent text default null) returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    wrong text;
    id uuid;
    correlation text := coalesce(correlation_id, lockgate.new_id()::text);
    bytes bytea;
    trace text := lockgate.given_traceparent('enqueue_email', traceparent);
begin
    -- As EmailTriggerCommand is checked in Rust.
    wrong := case
        when recipient_email is null or octet_length(recipient_email) > 254
            or recipient_email !~ '^[^\u0001-\u0020\u007f]+@[^@\u0001-\u0020\u007f]+$' then 'recipientEmail is not an e-mail address'
        when coalesce(template_id, '') = '' then 'templateId is empty'
        when template_context is null then 'templateContext is null'
        when locale is null or not lockgate.is_language_tag(locale) then 'locale is not a BCP 47 language tag such as de or pt-BR'
        when correlation = '' then 'correlationId is empty'
        when idempotency_key = '' then 'idempotencyKey is empty'
        when not isfinite(not_before) then 'notBefore is not a moment'
    end;
    if wrong is null then
        bytes := convert_to(
            '{"recipientEmail":' || to_json(recipient_email) || ',"templateId":' || to_json(template_id)
            || ',"templateContext":' || template_context || ',"locale":' || to_json(locale)
            || ',"correlationId":' || to_json(correlation) || coalesce(',"userId":' || user_id, '') || '}', 'UTF8');
        if octet_length(bytes) > 65536 then wrong := 'templateContext makes the command larger than 64 KiB'; end if;
    end if;
    if wrong is not null then
        raise exception 'enqueue_email: %; nothing was enqueued', wrong using errcode = 'invalid_parameter_value';
    end if;
    id := coalesce(lockgate.keyed_id('email', idempotency_key), lockgate.new_id());
    perform lockgate.enqueue_commands(array['email'], array[id], array[':email'], array[convert_to(user_id::text, 'UTF8')],
        array[(jsonb_build_array(jsonb_build_array('correlation-id', correlation))
               || case when trace is null then '[]' else jsonb_build_array(jsonb_build_array('traceparent', trace)) end)::text],
        array[bytes], array[not_before]);
    return id;
end $$;
comment on function lockgate.enqueue_email(text, text, jsonb, text, bigint, text, text, timestamptz, text) is
    'Enqueues an e-mail command in the caller''s transaction and answers its message id; its key is the user''s id, if given';

do $$
declare
    role text;
begin
    revoke all on lockgate.replica_minutes from public;
    execute (select string_agg(format('revoke all on function %s from public', p.oid::regprocedure), ';')
               from pg_proc p where p.pronamespace = 'lockgate'::regnamespace and p.proname in ('prune_measures', 'throughput',
                    'old_snapshots', 'is_traceparent', 'given_traceparent', 'start_run', 'enqueue_command', 'enqueue_email'));
    if exists (select 1 from pg_roles where rolname = 'lockgate_engine') then
        grant select, insert, update on lockgate.replica_minutes to lockgate_engine;
        grant execute on function lockgate.prune_measures(interval, integer) to lockgate_engine;
    end if;
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator', 'lockgate_sender') loop
        execute format('grant execute on function lockgate.start_run(text, jsonb, text, text, timestamptz, integer, interval,
            jsonb, text, integer, text, text, text, text),
            lockgate.enqueue_command(text, text, text, text, jsonb, text, text, timestamptz, bytea, text),
            lockgate.enqueue_email(text, text, jsonb, text, bigint, text, text, timestamptz, text) to %I', role);
    end loop;
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator', 'lockgate_reader') loop
        execute format('grant execute on function lockgate.throughput(timestamptz, timestamptz, interval),
            lockgate.old_snapshots(interval), lockgate.is_traceparent(text) to %I', role);
        execute format('grant select on lockgate.replica_minutes to %I', role);
    end loop;
end $$;
