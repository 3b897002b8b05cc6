-- The steps of runs with their results; of all kinds, or of one.
select run_id, path, kind, status, result, started_at, finished_at, due_at, coalesce(attempts, 0::smallint) as attempts,
       coalesce(claim_token, 0) as claim_token, plan_cursor, planned_at is not null as planned
  from lockgate.run_steps
 where run_id = any ($1) and ($2::text is null or kind = $2)
