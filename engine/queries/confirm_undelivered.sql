-- Settles stored direct commands that the broker acknowledged after all, with audit; nothing personal is kept. A row that
-- somebody has claimed meanwhile, or an operator has touched, is theirs.
with confirmed as (
    update lockgate.undelivered_messages m
       set status = 'delivered', kafka_partition = c.kafka_partition, kafka_offset = c.kafka_offset,
           finished_at = clock_timestamp(), key = null, headers = '[]', payload = null
      from unnest($2::text[], $3::uuid[], $4::integer[], $5::bigint[])
           c (command_type, message_id, kafka_partition, kafka_offset)
     where m.command_type = c.command_type and m.message_id = c.message_id and m.run_id is null
       and m.status = 'due' and m.claim_token = 0
    returning m.id, m.claim_token
), audit as (
    insert into lockgate.transitions (entity, key, from_status, to_status, token, replica, reason)
    select 'undelivered', id::text, 'due', 'delivered', claim_token, $1, 'acknowledged after it was stored'
      from confirmed
)
select count(*) from confirmed
