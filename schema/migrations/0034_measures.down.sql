drop function lockgate.start_run(text, jsonb, text, text, timestamptz, integer, interval, jsonb, text, integer, text, text, text, text);
create function lockgate.start_run(
    workflow text, params jsonb default '{}', idempotency_key text default null, singleton_key text default null,
    start_at timestamptz default null, pace_per_s integer default null, deadline interval default null,
    attributes jsonb default null, queue text default null, priority integer default null, tenant text default null,
    limit_key text default null, debounce_key text default null)
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
        p_traceparent => null, p_leader_term => null, p_actor => session_user::text, p_queue => queue,
        p_priority => priority::smallint, p_tenant => tenant, p_limit_key => limit_key, p_debounce_key => debounce_key,
        p_attributes => nullif(attributes, '{}'));
    if started.outcome = 'busy' then
        raise exception 'start_run: singleton key % is contended; nothing was started', singleton_key
            using errcode = 'lock_not_available', hint = 'try again';
    end if;
    return started.run_id;
end $$;
comment on function lockgate.start_run(text, jsonb, text, text, timestamptz, integer, interval, jsonb, text, integer, text, text,
    text) is
    'Starts a run of a workflow; the same idempotency key gives the same run; null when another run holds the singleton key';

drop function lockgate.enqueue_command(text, text, text, text, jsonb, text, text, timestamptz, bytea, text);
create function lockgate.enqueue_command(
    command_type text, payload text default null, key text default null, topic text default null,
    headers jsonb default '{}', correlation_id text default null, idempotency_key text default null,
    not_before timestamptz default null, payload_bytes bytea default null) returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    wrong text;
    id uuid;
    correlation text := coalesce(correlation_id, lockgate.new_id()::text);
    bytes bytea := coalesce(payload_bytes, convert_to(payload, 'UTF8'));
    named jsonb;
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
      into named from jsonb_each_text(coalesce(headers, '{}')) h;
    id := coalesce(lockgate.keyed_id(command_type, idempotency_key), lockgate.new_id());
    perform lockgate.enqueue_commands(array[command_type], array[id], array[coalesce(topic, ':' || command_type)],
        array[convert_to(key, 'UTF8')], array[named::text], array[bytes], array[not_before]);
    return id;
end $$;
comment on function lockgate.enqueue_command(text, text, text, text, jsonb, text, text, timestamptz, bytea) is
    'Enqueues a command of any type in the caller''s transaction and answers its message id; the payload is JSON, or any bytes';

drop function lockgate.enqueue_email(text, text, jsonb, text, bigint, text, text, timestamptz, text);
create function lockgate.enqueue_email(
    recipient_email text, template_id text, template_context jsonb default '{}', locale text default 'en',
    user_id bigint default null, correlation_id text default null, idempotency_key text default null,
    not_before timestamptz default null) returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    wrong text;
    id uuid;
    correlation text := coalesce(correlation_id, lockgate.new_id()::text);
    bytes bytea;
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
        array[jsonb_build_array(jsonb_build_array('correlation-id', correlation))::text], array[bytes], array[not_before]);
    return id;
end $$;
comment on function lockgate.enqueue_email(text, text, jsonb, text, bigint, text, text, timestamptz) is
    'Enqueues an e-mail command in the caller''s transaction and answers its message id; its key is the user''s id, if given';

do $$
declare
    role text;
begin
    revoke all on function lockgate.start_run(text, jsonb, text, text, timestamptz, integer, interval, jsonb, text, integer, text, text, text),
        lockgate.enqueue_command(text, text, text, text, jsonb, text, text, timestamptz, bytea),
        lockgate.enqueue_email(text, text, jsonb, text, bigint, text, text, timestamptz) from public;
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator', 'lockgate_sender') loop
        execute format('grant execute on function lockgate.start_run(text, jsonb, text, text, timestamptz, integer, interval,
            jsonb, text, integer, text, text, text),
            lockgate.enqueue_command(text, text, text, text, jsonb, text, text, timestamptz, bytea),
            lockgate.enqueue_email(text, text, jsonb, text, bigint, text, text, timestamptz) to %I', role);
    end loop;
end $$;

drop function lockgate.given_traceparent(text, text);
drop function lockgate.is_traceparent(text);
drop function lockgate.old_snapshots(interval);
drop function lockgate.throughput(timestamptz, timestamptz, interval);
drop function lockgate.prune_measures(interval, integer);
drop index lockgate.schedules_in_trouble;
drop index lockgate.transitions_by_people;
drop index lockgate.transitions_of_leader;
drop index lockgate.task_runs_failed;
drop index lockgate.task_runs_halted;
alter table lockgate.replicas drop column clock_offset_s;
drop table lockgate.replica_minutes;
