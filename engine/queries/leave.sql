-- A replica that stopped in good order.
update lockgate.replicas
   set stopped_at = clock_timestamp(), seen_at = clock_timestamp(), draining = true, in_flight = 0, window_used = 0
 where id = $1
