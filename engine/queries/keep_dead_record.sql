-- Keeps a record that nothing can be done with; false: so many are kept already that somebody must look first.
with full_table as (
    select count(*) >= $12::bigint as is_full
      from (select from lockgate.inbox_dead d where d.consumer = $1 limit $12::bigint) kept
), inserted as (
    insert into lockgate.inbox_dead (consumer, topic, kafka_partition, kafka_offset, made_at, message_id, reason_code, reason,
        key, header_names, header_values, payload)
    select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $13
      from full_table f where not f.is_full
    -- It was read before, and its offset not committed.
    on conflict (consumer, topic, kafka_partition, kafka_offset, made_at) do nothing
)
select not f.is_full or exists (
    select from lockgate.inbox_dead d
     where d.consumer = $1 and d.topic = $2 and d.kafka_partition = $3 and d.kafka_offset = $4 and d.made_at = $5)
  from full_table f
