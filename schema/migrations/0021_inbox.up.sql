-- What a consumer has done. In the database of its effects, because both are one transaction.
create table lockgate.inbox (
    consumer text not null check (consumer <> ''),
    message_id uuid not null,
    topic text not null,
    kafka_partition integer not null,
    kafka_offset bigint not null,
    received_at timestamptz not null default clock_timestamp(),
    primary key (consumer, message_id)
);
-- prune_inbox: the oldest first.
create index inbox_by_age on lockgate.inbox (received_at);

comment on table lockgate.inbox is 'Messages whose effect a consumer has committed: a copy of one of them is dropped';
comment on column lockgate.inbox.consumer is 'Who consumes: each consumer has its own memory';
comment on column lockgate.inbox.message_id is 'The header message-id, the same in every copy';
comment on column lockgate.inbox.topic is 'Topic of the copy that had the effect';
comment on column lockgate.inbox.kafka_partition is 'Partition of that copy';
comment on column lockgate.inbox.kafka_offset is 'Offset of that copy';
comment on column lockgate.inbox.received_at is 'When it had its effect';

create table lockgate.inbox_dead (
    consumer text not null check (consumer <> ''),
    topic text not null,
    kafka_partition integer not null,
    kafka_offset bigint not null,
    made_at timestamptz not null,
    message_id uuid,
    reason_code text not null,
    reason text not null,
    key bytea,
    header_names text[] not null,
    header_values bytea[] not null,
    payload bytea not null,
    received_at timestamptz not null default clock_timestamp(),
    -- A topic that was made anew begins its offsets anew; its records are younger.
    primary key (consumer, topic, kafka_partition, kafka_offset, made_at),
    check (cardinality(header_names) = cardinality(header_values))
);
-- prune_inbox: the oldest first.
create index inbox_dead_by_age on lockgate.inbox_dead (received_at);

comment on table lockgate.inbox_dead is 'Records that a consumer can do nothing with, as they were read; their ids are not in the inbox, so a copy that was sent again is taken';
comment on column lockgate.inbox_dead.consumer is 'Who could do nothing with it';
comment on column lockgate.inbox_dead.topic is 'Its topic';
comment on column lockgate.inbox_dead.kafka_partition is 'Its partition';
comment on column lockgate.inbox_dead.kafka_offset is 'Its offset';
comment on column lockgate.inbox_dead.made_at is 'Its timestamp in Kafka; 1970 when it has none';
comment on column lockgate.inbox_dead.message_id is 'Its header message-id, when it has one that is a UUID';
comment on column lockgate.inbox_dead.reason_code is 'Why, from a closed set';
comment on column lockgate.inbox_dead.reason is 'The same in words, without personal data';
comment on column lockgate.inbox_dead.key is 'Its key';
comment on column lockgate.inbox_dead.header_names is 'Names of its headers in order';
comment on column lockgate.inbox_dead.header_values is 'Their values, exact bytes';
comment on column lockgate.inbox_dead.payload is 'Its value, exact bytes';
comment on column lockgate.inbox_dead.received_at is 'When it was put here';

create function lockgate.prune_inbox(p_older_than interval, p_page integer) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    gone integer;
    dead integer;
begin
    delete from lockgate.inbox where (consumer, message_id) in
        (select consumer, message_id from lockgate.inbox
          where received_at < (select clock_timestamp()) - p_older_than
          order by received_at limit p_page for update skip locked);
    get diagnostics gone = row_count;
    delete from lockgate.inbox_dead where (consumer, topic, kafka_partition, kafka_offset, made_at) in
        (select consumer, topic, kafka_partition, kafka_offset, made_at from lockgate.inbox_dead
          where received_at < (select clock_timestamp()) - p_older_than
          order by received_at limit p_page for update skip locked);
    get diagnostics dead = row_count;
    return gone + dead;
end $$;
comment on function lockgate.prune_inbox(interval, integer) is
    'Forgets up to a page of messages, and up to a page of dead records, that a consumer took longer ago than that';

revoke all on function lockgate.prune_inbox(interval, integer) from public;
do $$
declare
    have text[] := array(select rolname from pg_roles where rolname like 'lockgate\_%');
    role text;
begin
    if 'lockgate_engine' = any (have) then
        grant select, insert on lockgate.inbox, lockgate.inbox_dead to lockgate_engine;
        grant execute on function lockgate.prune_inbox(interval, integer) to lockgate_engine;
    end if;
    foreach role in array array['lockgate_operator', 'lockgate_reader'] loop
        if role = any (have) then
            execute format('grant select on lockgate.inbox to %I', role);
            -- Everything but key, headers and payload, which may hold personal data.
            execute format('grant select (consumer, topic, kafka_partition, kafka_offset, made_at, message_id, reason_code,
                reason, received_at) on lockgate.inbox_dead to %I', role);
        end if;
    end loop;
end $$;
