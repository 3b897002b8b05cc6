-- Holds a page of rows longer; rows that are gone are not counted.
update lockgate.undelivered_messages m
   set lease_until = clock_timestamp() + make_interval(secs => $5)
  from unnest($2::text[], $3::uuid[], $4::bigint[]) u (command_type, id, token)
 where m.command_type = u.command_type and m.id = u.id and m.claim_token = u.token and m.claim_id = $1
   and m.status = 'claimed'
