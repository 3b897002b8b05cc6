-- The transactional outbox: commands that are committed with the caller's own rows or not at all, and sent afterwards.
create table lockgate.outbox (
    seq bigint generated always as identity primary key,
    -- In one place, whoever writes the row. Commands of one key are in one lane, and a lane has one holder.
    lane smallint not null generated always as (
        (case when key is null then get_byte(uuid_send(message_id), 15) else get_byte(sha256(key), 0) end & 15)::smallint) stored,
    -- Both are in keys of indexes, whose entries have a bound.
    command_type text not null check (command_type <> '' and char_length(command_type) <= 100),
    message_id uuid not null,
    route text not null check (route <> '' and char_length(route) <= 250),
    key bytea,
    headers jsonb not null default '[]',
    payload bytea not null check (octet_length(payload) <= 16777216),
    not_before timestamptz not null default '-infinity',
    created_at timestamptz not null default clock_timestamp(),
    constraint outbox_once unique (message_id)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0,
        autovacuum_analyze_scale_factor = 0.2, autovacuum_vacuum_insert_scale_factor = 0.2);
-- due_routes and settle_outbox: what is due of a lane on one route, in the order in which it was enqueued.
create index outbox_due on lockgate.outbox (lane, route, not_before, seq);

comment on table lockgate.outbox is 'Commands committed with their caller''s own rows and not sent yet; deleted once delivered';
comment on column lockgate.outbox.seq is 'Order in which they were enqueued';
comment on column lockgate.outbox.lane is 'Hash of the key, without one of the message id; one holder at a time sends a lane';
comment on column lockgate.outbox.command_type is 'Kind of command, such as email';
comment on column lockgate.outbox.message_id is 'Stable id of the message, the same in every copy ever sent';
comment on column lockgate.outbox.route is 'Its topic, or : and its type when the topic is that of the configuration when it is sent';
comment on column lockgate.outbox.key is 'Partitioning key; commands of one key and route keep their order';
comment on column lockgate.outbox.headers is 'Headers as an array of [name, value] in order, without message-id';
comment on column lockgate.outbox.payload is 'Exact bytes';
comment on column lockgate.outbox.not_before is 'Not sent before then; -infinity: at once';
comment on column lockgate.outbox.created_at is 'When it was enqueued';

create table lockgate.outbox_lanes (
    lane smallint primary key check (lane between 0 and 15),
    claim_token bigint not null default 0,
    claim_id uuid,
    claimed_by uuid,
    claimed_at timestamptz,
    lease_until timestamptz,
    last_error text,
    check ((claim_id is null) = (lease_until is null))
) with (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
insert into lockgate.outbox_lanes (lane) select generate_series(0, 15);

comment on table lockgate.outbox_lanes is 'The right to send a lane of the outbox: sixteen rows, never more or fewer';
comment on column lockgate.outbox_lanes.lane is 'The lane';
comment on column lockgate.outbox_lanes.claim_token is 'Grows with every claim';
comment on column lockgate.outbox_lanes.claim_id is 'The claim under which it is held; every write of its holder names it';
comment on column lockgate.outbox_lanes.claimed_by is 'Replica that sends it';
comment on column lockgate.outbox_lanes.claimed_at is 'When it was last claimed; lanes take turns by it';
comment on column lockgate.outbox_lanes.lease_until is 'When that claim ends';
comment on column lockgate.outbox_lanes.last_error is 'What its last holder met, without personal data; null: all went well';

create view lockgate.v_outbox as
select l.lane,
       count(o.seq) filter (where o.not_before <= clock_timestamp()) as waiting,
       count(o.seq) filter (where o.not_before > clock_timestamp()) as delayed,
       min(greatest(o.created_at, o.not_before)) filter (where o.not_before <= clock_timestamp()) as oldest,
       l.claimed_by as holder, l.lease_until, l.last_error
  from lockgate.outbox_lanes l
  left join lockgate.outbox o on o.lane = l.lane
 group by l.lane;
comment on view lockgate.v_outbox is 'The outbox by lane, for dashboards and alerts: alert on the age of oldest';
comment on column lockgate.v_outbox.lane is 'The lane';
comment on column lockgate.v_outbox.waiting is 'Commands that could be sent now';
comment on column lockgate.v_outbox.delayed is 'Commands that are to wait longer';
comment on column lockgate.v_outbox.oldest is 'Since when the first of those that could be sent waits';
comment on column lockgate.v_outbox.holder is 'Replica that sends the lane';
comment on column lockgate.v_outbox.lease_until is 'When its claim ends';
comment on column lockgate.v_outbox.last_error is 'What the last holder met';

create function lockgate.keyed_id(command_type text, idempotency_key text) returns uuid
language sql immutable strict set search_path = pg_catalog, pg_temp as $$
    -- UUIDv8 of SHA-256, the one hash that Postgres has built in: over a namespace, the type, a slash and the key.
    select encode(set_byte(set_byte(h, 6, (get_byte(h, 6) & 15) | 128), 8, (get_byte(h, 8) & 63) | 128), 'hex')::uuid
      from substring(sha256('\x7f2c4e0a51a75d0c9a356f1d2b0c8e11'::bytea
                            || convert_to(command_type || '/' || idempotency_key, 'UTF8')) for 16) h
$$;
comment on function lockgate.keyed_id(text, text) is
    'The message id of commands of this type with this idempotency key; delivery::keyed_id makes the same';

create function lockgate.enqueue_commands(
    command_types text[], message_ids uuid[], routes text[], keys bytea[], headers text[], payloads bytea[],
    not_befores timestamptz[]) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    written bigint;
begin
    -- No lock on anything that others write, and no notification: that would make all commits wait for one another.
    insert into lockgate.outbox (command_type, message_id, route, key, headers, payload, not_before)
    select u.command_type, u.message_id, u.route, u.key, u.headers::jsonb, u.payload, coalesce(u.not_before, '-infinity')
      from unnest(command_types, message_ids, routes, keys, headers, payloads, not_befores) with ordinality
               u (command_type, message_id, route, key, headers, payload, not_before, at)
     order by u.at
    on conflict on constraint outbox_once do nothing;
    get diagnostics written = row_count;
    return written;
end $$;
comment on function lockgate.enqueue_commands(text[], uuid[], text[], bytea[], text[], bytea[], timestamptz[]) is
    'Writes a page of ready commands into the outbox, in order, those that wait there already left out; answers how many';

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

create function lockgate.is_language_tag(tag text) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp as $$
    -- The form of BCP 47, as the JSON schema of the commands has it: schema/json/email-trigger-command.v1.json.
    select tag ~ ('^(([A-Za-z]{2,3}(-[A-Za-z]{3}){0,3}|[A-Za-z]{4,8})(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?'
        || '(-([A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*(-[0-9A-WY-Za-wy-z](-[A-Za-z0-9]{2,8})+)*(-[Xx](-[A-Za-z0-9]{1,8})+)?'
        || '|[Xx](-[A-Za-z0-9]{1,8})+|i-(ami|bnn|default|enochian|hak|klingon|lux|mingo|navajo|pwn|tao|tay|tsu)'
        || '|en-GB-oed|sgn-(BE-FR|BE-NL|CH-DE))$')
$$;
comment on function lockgate.is_language_tag(text) is 'Whether a text has the form of a BCP 47 language tag';
revoke all on function lockgate.is_language_tag(text) from public;

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

revoke all on function lockgate.keyed_id(text, text),
    lockgate.enqueue_commands(text[], uuid[], text[], bytea[], text[], bytea[], timestamptz[]),
    lockgate.enqueue_command(text, text, text, text, jsonb, text, text, timestamptz, bytea),
    lockgate.enqueue_email(text, text, jsonb, text, bigint, text, text, timestamptz) from public;
do $$
declare
    role text;
begin
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator', 'lockgate_sender') loop
        execute format('grant execute on function lockgate.keyed_id(text, text),
            lockgate.enqueue_commands(text[], uuid[], text[], bytea[], text[], bytea[], timestamptz[]),
            lockgate.enqueue_command(text, text, text, text, jsonb, text, text, timestamptz, bytea),
            lockgate.enqueue_email(text, text, jsonb, text, bigint, text, text, timestamptz) to %I', role);
    end loop;
    if exists (select 1 from pg_roles where rolname = 'lockgate_sender') then
        grant usage on schema lockgate to lockgate_sender;
        grant execute on function lockgate.start_run(text, jsonb, text, text, timestamptz, integer, interval) to lockgate_sender;
    end if;
    if exists (select 1 from pg_roles where rolname = 'lockgate_engine') then
        -- A command that was delivered is no more: the one table from which the engine itself deletes.
        grant select, insert, delete on lockgate.outbox to lockgate_engine;
        grant select, update on lockgate.outbox_lanes to lockgate_engine;
    end if;
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator', 'lockgate_reader') loop
        execute format('grant select on lockgate.v_outbox to %I', role);
    end loop;
end $$;
