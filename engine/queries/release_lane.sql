-- Gives a lane back, with what its holder met.
update lockgate.outbox_lanes l
   set claim_id = null, claimed_by = null, lease_until = null, last_error = $4
 where l.lane = $1 and l.claim_token = $2 and l.claim_id = $3
