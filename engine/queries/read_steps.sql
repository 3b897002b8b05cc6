-- The steps of a run with their results.
select path, result, plan_cursor, planned_at is not null as planned from lockgate.run_steps where run_id = $1
