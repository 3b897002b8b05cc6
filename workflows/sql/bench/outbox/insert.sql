-- Rows as the engine writes them, by one insert.
insert into lockgate.outbox (command_type, message_id, route, key, headers, payload)
select 'email', message_id, ':email', key, headers::jsonb, payload
  from unnest($1::uuid[], $2::bytea[], $3::text[], $4::bytea[]) u (message_id, key, headers, payload)
