-- What operators do with undelivered messages, without rights on the table; and the index by which redelivery claims.

-- due_topics and claim_undelivered: a topic whose breaker is open must not stand before the others.
create index undelivered_due_by_topic on lockgate.undelivered_messages (topic, next_attempt_at) where status = 'due';
drop index lockgate.undelivered_due;

create function lockgate.list_undelivered(
    ids uuid[] default null, statuses text[] default null, run uuid default null, of_type text default null,
    to_topic text default null, code text default null, older_than uuid default null, at_most integer default 100)
returns table (id uuid, command_type text, message_id uuid, run_id uuid, step text, batch_seq integer, item_id bigint,
    status text, reason_code text, reason text, topic text, attempts integer, next_attempt_at timestamptz,
    claimed_by uuid, lease_until timestamptz, last_error text, kafka_partition integer, kafka_offset bigint, actor text,
    created_at timestamptz, finished_at timestamptz, payload_bytes integer)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    return query
    select m.id, m.command_type, m.message_id, m.run_id, m.step, m.batch_seq, m.item_id, m.status, m.reason_code,
           m.reason, m.topic, m.attempts, m.next_attempt_at, m.claimed_by, m.lease_until, m.last_error,
           m.kafka_partition, m.kafka_offset, m.actor, m.created_at, m.finished_at, octet_length(m.payload)
      from lockgate.undelivered_messages m
     where (ids is null or m.id = any (ids)) and (statuses is null or m.status = any (statuses))
       and (run is null or m.run_id = run) and (of_type is null or m.command_type = of_type)
       and (to_topic is null or m.topic = to_topic) and (code is null or m.reason_code = code)
       and (older_than is null or m.id < older_than)
     order by m.id desc
     limit at_most;
end $$;
comment on function lockgate.list_undelivered(uuid[], text[], uuid, text, text, text, uuid, integer) is
    'Undelivered messages, newest first, without key, headers and payload; older_than is the id to go on behind';

create function lockgate.count_undelivered(
    ids uuid[] default null, statuses text[] default null, run uuid default null, of_type text default null,
    to_topic text default null, code text default null)
returns table (status text, messages bigint, without_message bigint)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    return query
    select m.status, count(*), count(*) filter (where m.payload is null)
      from lockgate.undelivered_messages m
     where (ids is null or m.id = any (ids)) and (statuses is null or m.status = any (statuses))
       and (run is null or m.run_id = run) and (of_type is null or m.command_type = of_type)
       and (to_topic is null or m.topic = to_topic) and (code is null or m.reason_code = code)
     group by m.status
     order by m.status;
end $$;
comment on function lockgate.count_undelivered(uuid[], text[], uuid, text, text, text) is
    'How many undelivered messages there are by state; without_message counts those that cannot be sent';

-- The one place that changes rows by hand. A row that redelivery holds is not touched: its holder decides.
create function lockgate.change_undelivered(
    to_status text, ids uuid[], statuses text[], run uuid, of_type text, to_topic text, code text, newer_than uuid,
    page integer, why text, by_actor text, out seen integer, out changed integer, out last_id uuid)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    who text := lockgate.acting_user(by_actor);
    is_final boolean := to_status = 'discarded';
begin
    with picked as (
        select m.command_type, m.id, m.status
          from lockgate.undelivered_messages m
         where m.status in ('due', 'refused', 'dead') and m.status = any (statuses)
           and (ids is null or m.id = any (ids))
           and (run is null or m.run_id = run) and (of_type is null or m.command_type = of_type)
           and (to_topic is null or m.topic = to_topic) and (code is null or m.reason_code = code)
           and (newer_than is null or m.id > newer_than)
         order by m.id
         limit page
           for no key update
    ), acted as (
        update lockgate.undelivered_messages m
           set status = to_status, actor = who, attempts = case when is_final then m.attempts else 0 end,
               next_attempt_at = case when is_final then m.next_attempt_at else clock_timestamp() end,
               finished_at = case when is_final then clock_timestamp() end,
               key = case when is_final then null else m.key end,
               headers = case when is_final then '[]' else m.headers end,
               payload = case when is_final then null else m.payload end
          from picked p
         where m.command_type = p.command_type and m.id = p.id and (is_final or m.payload is not null)
        returning m.id, m.run_id, m.batch_seq, m.claim_token, p.status as was
    ), audit as (
        insert into lockgate.transitions (entity, key, run_id, batch_seq, from_status, to_status, token, actor, reason)
        select 'undelivered', a.id::text, a.run_id, a.batch_seq, a.was, to_status, a.claim_token, who, why from acted a
    )
    select (select count(*) from picked), (select count(*) from acted),
           (select p.id from picked p order by p.id desc limit 1)
      into seen, changed, last_id;
end $$;
comment on function lockgate.change_undelivered(
    text, uuid[], text[], uuid, text, text, text, uuid, integer, text, text) is
    'Makes a page of undelivered messages due or discarded, with audit; called by the two functions for operators';

create function lockgate.redeliver_undelivered(
    ids uuid[] default null, statuses text[] default '{refused,dead,due}', run uuid default null,
    of_type text default null, to_topic text default null, code text default null, newer_than uuid default null,
    page integer default 1000, why text default 'sent again by hand', by_actor text default null,
    out seen integer, out changed integer, out last_id uuid)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    select c.seen, c.changed, c.last_id into seen, changed, last_id
      from lockgate.change_undelivered('due', ids, statuses, run, of_type, to_topic, code, newer_than, page, why, by_actor) c;
    if changed > 0 then perform pg_notify('lockgate_wake', 'undelivered'); end if;
end $$;
comment on function lockgate.redeliver_undelivered(
    uuid[], text[], uuid, text, text, text, uuid, integer, text, text) is
    'Makes a page of undelivered messages due now with their attempts anew; those without a message stay. Go on behind last_id while seen = page';

create function lockgate.discard_undelivered(
    why text, ids uuid[] default null, statuses text[] default '{refused,dead,due}', run uuid default null,
    of_type text default null, to_topic text default null, code text default null, newer_than uuid default null,
    page integer default 1000, by_actor text default null, out seen integer, out changed integer, out last_id uuid)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    if coalesce(btrim(why), '') = '' then
        raise exception 'discard_undelivered: no reason given; nothing was discarded' using hint = 'say why';
    end if;
    select c.seen, c.changed, c.last_id into seen, changed, last_id
      from lockgate.change_undelivered('discarded', ids, statuses, run, of_type, to_topic, code, newer_than, page, why, by_actor) c;
end $$;
comment on function lockgate.discard_undelivered(
    text, uuid[], text[], uuid, text, text, text, uuid, integer, text) is
    'Gives up a page of undelivered messages for good: key, headers and payload are cleared. Go on behind last_id while seen = page';

revoke all on function lockgate.list_undelivered(uuid[], text[], uuid, text, text, text, uuid, integer),
    lockgate.count_undelivered(uuid[], text[], uuid, text, text, text),
    lockgate.change_undelivered(text, uuid[], text[], uuid, text, text, text, uuid, integer, text, text),
    lockgate.redeliver_undelivered(uuid[], text[], uuid, text, text, text, uuid, integer, text, text),
    lockgate.discard_undelivered(text, uuid[], text[], uuid, text, text, text, uuid, integer, text) from public;
do $$
declare
    wanted text;
begin
    foreach wanted in array array['lockgate_engine', 'lockgate_operator'] loop
        if exists (select 1 from pg_roles where rolname = wanted) then
            execute format('grant execute on function
                lockgate.list_undelivered(uuid[], text[], uuid, text, text, text, uuid, integer),
                lockgate.count_undelivered(uuid[], text[], uuid, text, text, text),
                lockgate.redeliver_undelivered(uuid[], text[], uuid, text, text, text, uuid, integer, text, text),
                lockgate.discard_undelivered(text, uuid[], text[], uuid, text, text, text, uuid, integer, text) to %I', wanted);
        end if;
    end loop;
end $$;
