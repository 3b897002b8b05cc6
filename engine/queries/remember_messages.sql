-- Remembers a page of messages; answers those that were not there, whose effects are still to come.
insert into lockgate.inbox (consumer, message_id, topic, kafka_partition, kafka_offset)
select $1, m.message_id, $2, m.kafka_partition, m.kafka_offset
  from unnest($3::uuid[], $4::integer[], $5::bigint[]) as m (message_id, kafka_partition, kafka_offset)
 -- All consumers go in one order: two that have the same ids wait for one another and never both.
 order by m.message_id
on conflict (consumer, message_id) do nothing
returning message_id
