-- Moves rows of a lane that can never go to the undelivered messages, under its claim. Whoever lost the lane moves none;
-- asked again after a lost answer it finds them gone.
with held as materialized (
    -- Nobody takes the lane over before this is done.
    select l.lane
      from lockgate.outbox_lanes l
     where l.lane = $1 and l.claim_token = $2 and l.claim_id = $3
       for share
), refused as (
    delete from lockgate.outbox o
     using unnest($5::bigint[], $6::uuid[], $7::text[], $8::text[], $9::text[])
               r (seq, id, headers, code, reason)
     where o.seq = r.seq and o.lane = (select lane from held)
    returning o.command_type, r.id, o.message_id, r.code, r.reason, o.key, r.headers, o.payload
), stored as (
    insert into lockgate.undelivered_messages (command_type, id, message_id, status, reason_code, reason, topic, key,
        headers, payload)
    select command_type, id, message_id, 'refused', code, reason, $10, key, headers::jsonb, payload
      from refused
    on conflict do nothing
    returning id, reason
)
insert into lockgate.transitions (entity, key, to_status, replica, reason)
select 'undelivered', id::text, 'refused', $4, reason from stored
