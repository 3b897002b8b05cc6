-- A page of a run's undelivered rows, without what is in the messages.
select m.id, m.message_id, m.step, m.batch_seq, m.item_id, m.status, m.reason_code, m.topic, m.claim_token,
       m.kafka_partition, m.kafka_offset
  from lockgate.undelivered_messages m
 where m.run_id = $1 and m.id > $2
 order by m.id
 limit $3
