-- Stores direct commands, in a transaction of their own. A message that is there already stays as it is: it was handed
-- over twice, or the answer to a first try was lost. In one order, so that two who store the same never wait in a circle.
insert into lockgate.undelivered_messages (command_type, id, message_id, status, reason_code, reason, topic, key, headers,
       payload, next_attempt_at)
select u.command_type, u.id, u.message_id, case when u.refused then 'refused' else 'due' end, u.code, u.reason, u.topic,
       u.key, u.headers::jsonb, u.payload,
       coalesce(u.not_before, clock_timestamp() + make_interval(secs => u.delay))
  from unnest($1::text[], $2::uuid[], $3::uuid[], $4::boolean[], $5::text[], $6::text[], $7::text[], $8::bytea[],
              $9::text[], $10::bytea[], $11::timestamptz[], $12::double precision[])
       u (command_type, id, message_id, refused, code, reason, topic, key, headers, payload, not_before, delay)
 order by u.command_type, u.message_id
on conflict do nothing
