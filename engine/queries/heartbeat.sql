-- Registers a replica or says that it still lives.
insert into lockgate.replicas (id, version, roles, workflows, stale_after, draining, in_flight, window_used, window_size, breakers)
values ($1, $2, $3, $4, make_interval(secs => $5), $6, $7, $8, $9, $10)
on conflict (id) do update
   set seen_at = clock_timestamp(), draining = excluded.draining, in_flight = excluded.in_flight,
       window_used = excluded.window_used, window_size = excluded.window_size, breakers = excluded.breakers
