-- Registers a replica or says that it still lives, and keeps what it has counted with the minute: totals, so that a repeat
-- counts nothing twice. Answers the clock.
with seen as (
    insert into lockgate.replicas (id, version, roles, workflows, stale_after, draining, in_flight, window_used, window_size,
        breakers, clock_offset_s, replays, host)
    values ($1, $2, $3, $4, make_interval(secs => $5), $6, $7, $8, $9, $10, $11, $26, $27)
    on conflict (id) do update
       set seen_at = clock_timestamp(), draining = excluded.draining, in_flight = excluded.in_flight,
           window_used = excluded.window_used, window_size = excluded.window_size, breakers = excluded.breakers,
           clock_offset_s = excluded.clock_offset_s
    returning started_at
), counted as (
    insert into lockgate.replica_minutes as m (minute, replica, since,
        items_delivered, items_refused, items_unknown, items_passed_over, batches, runs_completed, runs_failed, steps,
        commands_delivered, commands_stored, outbox_delivered, redelivered, dead, leases_lost)
    select date_trunc('minute', clock_timestamp()), $1, seen.started_at,
           $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25
      from seen
    on conflict (minute, replica) do update
       set items_delivered = greatest(m.items_delivered, excluded.items_delivered),
           items_refused = greatest(m.items_refused, excluded.items_refused),
           items_unknown = greatest(m.items_unknown, excluded.items_unknown),
           items_passed_over = greatest(m.items_passed_over, excluded.items_passed_over),
           batches = greatest(m.batches, excluded.batches),
           runs_completed = greatest(m.runs_completed, excluded.runs_completed),
           runs_failed = greatest(m.runs_failed, excluded.runs_failed),
           steps = greatest(m.steps, excluded.steps),
           commands_delivered = greatest(m.commands_delivered, excluded.commands_delivered),
           commands_stored = greatest(m.commands_stored, excluded.commands_stored),
           outbox_delivered = greatest(m.outbox_delivered, excluded.outbox_delivered),
           redelivered = greatest(m.redelivered, excluded.redelivered),
           dead = greatest(m.dead, excluded.dead),
           leases_lost = greatest(m.leases_lost, excluded.leases_lost)
)
select clock_timestamp()
