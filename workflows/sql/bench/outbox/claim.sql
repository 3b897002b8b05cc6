-- A page of what is due, whoever comes first.
update lockgate.undelivered_messages m
   set status = 'claimed', claim_token = m.claim_token + 1, lease_until = clock_timestamp() + interval '1 minute'
  from (select command_type, id
          from lockgate.undelivered_messages
         where status = 'due' and topic > '' and next_attempt_at <= (select clock_timestamp())
         order by topic, next_attempt_at
         limit $1
           for no key update skip locked) page
 where m.command_type = page.command_type and m.id = page.id
returning m.id, m.key, m.headers, m.payload
