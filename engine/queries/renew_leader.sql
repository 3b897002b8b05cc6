-- Prolongs this holder's own term, never anybody else's and never one that is over.
update lockgate.leader_lease
   set expires_at = clock_timestamp() + make_interval(secs => $3)
 where name = 'engine' and term = $1 and holder = $2 and expires_at > clock_timestamp()
