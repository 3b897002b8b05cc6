-- Holds a lane longer; no row: it is lost.
update lockgate.outbox_lanes l
   set lease_until = clock_timestamp() + make_interval(secs => $4)
 where l.lane = $1 and l.claim_token = $2 and l.claim_id = $3
