-- Ends a page of a lane under its claim and reads the next one, in one round trip: what was delivered is deleted, what
-- can never go is moved to the undelivered messages. Whoever lost the lane deletes nothing and reads nothing. Asked
-- again after a lost answer it finds those rows gone, which is what it is for.
with held as materialized (
    -- Nobody takes the lane over before this is done.
    select l.lane
      from lockgate.outbox_lanes l
     where l.lane = $1 and l.claim_token = $2 and l.claim_id = $3
       for share
), delivered as (
    delete from lockgate.outbox o
     where o.seq = any ($5::bigint[]) and o.lane = (select lane from held)
), refused as (
    delete from lockgate.outbox o
     using unnest($6::bigint[], $7::uuid[], $8::text[], $9::text[], $10::text[])
               r (seq, id, headers, code, reason)
     where o.seq = r.seq and o.lane = (select lane from held)
    returning o.command_type, r.id, o.message_id, r.code, r.reason, o.key, r.headers, o.payload
), stored as (
    insert into lockgate.undelivered_messages (command_type, id, message_id, status, reason_code, reason, topic, key,
        headers, payload)
    select command_type, id, message_id, 'refused', code, reason, $11, key, headers::jsonb, payload
      from refused
    on conflict do nothing
    returning id, reason
), audit as (
    insert into lockgate.transitions (entity, key, to_status, replica, reason)
    select 'undelivered', id::text, 'refused', $4, reason from stored
), page as (
    select o.*, sum(octet_length(o.payload)) over (order by o.not_before, o.seq) - octet_length(o.payload) as before
      from (select o.seq, o.not_before, o.message_id, o.key, o.headers, o.payload
              from lockgate.outbox o
             where o.lane = (select lane from held) and o.route = $12
               and o.not_before <= (select clock_timestamp())
               and (o.not_before, o.seq) > (coalesce($13::timestamptz, '-infinity'), $14::bigint)
             order by o.not_before, o.seq
             limit $15) o
)
select exists (select from held) as held,
       p.seq, nullif(p.not_before, '-infinity') as not_before, p.message_id, p.key, p.headers::text as headers, p.payload
  from (select) one
  left join page p on p.before < $16
 order by p.not_before, p.seq
