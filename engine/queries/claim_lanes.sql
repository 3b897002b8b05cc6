-- Claims lanes of the outbox that are free or whose holder's lease has ended; the test of the clock is in the update
-- itself. Nobody waits for another's lock.
with free as (
    select l.lane, l.claimed_by
      from lockgate.outbox_lanes l
     where l.lane = any ($2) and (l.lease_until is null or l.lease_until < (select clock_timestamp()))
     order by l.lane
       for no key update skip locked
)
update lockgate.outbox_lanes l
   set claim_token = l.claim_token + 1, claim_id = $1, claimed_by = $3, claimed_at = clock_timestamp(),
       lease_until = clock_timestamp() + make_interval(secs => $4)
  from free
 where l.lane = free.lane and (l.lease_until is null or l.lease_until < clock_timestamp())
returning l.lane, l.claim_token, free.claimed_by as taken_from
