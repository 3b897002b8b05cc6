-- The steps of a page of runs, each with its result if it is small, and at most so many: what of a page is ordinary is read
-- at once.
select run_id, path, kind, status, case when octet_length(result) <= $2 then result end as result, started_at,
       finished_at, due_at, coalesce(attempts, 0::smallint) as attempts, coalesce(claim_token, 0) as claim_token, plan_cursor,
       planned_at is not null as planned, coalesce(octet_length(result) > $2, false) as left_out
  from lockgate.run_steps
 where run_id = any ($1)
 -- So that of those that are cut off only one may have more.
 order by run_id
 limit $3
