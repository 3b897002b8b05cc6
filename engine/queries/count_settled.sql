-- Rows that are settled under this very claim, now or before: what is asked when a settlement found fewer than it named, as
-- its first answer may have been lost.
select count(*)
  from unnest($2::text[], $3::uuid[], $4::bigint[]) u (command_type, id, token)
  join lockgate.undelivered_messages m
    on m.command_type = u.command_type and m.id = u.id and m.claim_token = u.token and m.claim_id = $1
 where m.status <> 'claimed'
