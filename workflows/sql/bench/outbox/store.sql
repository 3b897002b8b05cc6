-- Undelivered messages of direct commands, due.
insert into lockgate.undelivered_messages (command_type, id, message_id, status, reason_code, reason, topic, key, headers, payload)
select 'email', message_id, message_id, 'due', 'timed_out', 'timed_out: no answer', $5, key, headers::jsonb, payload
  from unnest($1::uuid[], $2::bytea[], $3::text[], $4::bytea[]) u (message_id, key, headers, payload)
