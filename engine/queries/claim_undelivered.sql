-- Claims due rows of a topic, oldest first; nobody waits for another's lock. Large payloads end a page early.
with due as (
    select m.command_type, m.id, m.next_attempt_at, coalesce(octet_length(m.payload), 0) as bytes
      from lockgate.undelivered_messages m
     where m.status = 'due' and m.topic = $2 and m.next_attempt_at <= (select clock_timestamp())
     order by m.next_attempt_at
     limit $3
       for no key update skip locked
), fits as (
    -- The first row always fits.
    select d.command_type, d.id
      from (select due.*, sum(bytes) over (order by next_attempt_at, id) - bytes as before from due) d
     where d.before < $4
)
update lockgate.undelivered_messages m
   set status = 'claimed', claim_token = m.claim_token + 1, claim_id = $1, claimed_by = $5,
       lease_until = clock_timestamp() + make_interval(secs => $6)
  from fits
 where m.command_type = fits.command_type and m.id = fits.id
returning m.command_type, m.id, m.claim_token, m.key, m.headers, m.payload, m.attempts
