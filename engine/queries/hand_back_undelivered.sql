-- Gives rows back untried: no attempt is counted, and they keep their place unless they are to pause. Counts the rows
-- that this very claim gave back, now or before, should the first answer have been lost.
with back as (
    update lockgate.undelivered_messages m
       set status = 'due', claimed_by = null, lease_until = null,
           next_attempt_at = greatest(m.next_attempt_at, clock_timestamp() + make_interval(secs => nullif($5::double precision, 0)))
      from unnest($2::text[], $3::uuid[], $4::bigint[]) u (command_type, id, token)
     where m.command_type = u.command_type and m.id = u.id and m.claim_token = u.token and m.claim_id = $1
       and m.status = 'claimed'
    returning 1
)
select (select count(*) from back)
       + (select count(*)
            from unnest($2::text[], $3::uuid[], $4::bigint[]) u (command_type, id, token)
            join lockgate.undelivered_messages m
              on m.command_type = u.command_type and m.id = u.id and m.claim_token = u.token and m.claim_id = $1
           where m.status <> 'claimed')
