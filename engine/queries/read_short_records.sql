-- The steps of runs with their results, as far as those of a run are no more than $2 bytes together; of a run that has
-- more, one row without a result says so. Each row counts $3 bytes for itself, and no more are looked at than may fit.
select asked.run_id, s.path, s.kind, s.status, case when s.bytes <= $2 then s.result end as result, s.started_at,
       s.finished_at, s.due_at, coalesce(s.attempts, 0::smallint) as attempts, coalesce(s.claim_token, 0) as claim_token,
       s.plan_cursor, s.planned_at is not null as planned, s.bytes > $2 as left_out
  from unnest($1::uuid[]) asked (run_id)
 cross join lateral (
     select one.*, row_number() over () as nth,
            sum($3::integer + octet_length(one.path) + coalesce(octet_length(one.result), 0)) over () as bytes
       -- Sizes are read without what they are of.
       from (select * from lockgate.run_steps where run_id = asked.run_id limit $2::integer / $3::integer + 1) one) s
 where s.bytes <= $2 or s.nth = 1
