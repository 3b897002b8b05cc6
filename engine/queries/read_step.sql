-- A step as it is recorded, if it is, and whether its run is still held under the claim.
select s.path, s.kind, s.status, s.result, s.started_at, s.finished_at, s.due_at, coalesce(s.attempts, 0::smallint) as attempts,
       coalesce(s.claim_token, 0) as claim_token, s.plan_cursor, s.planned_at is not null as planned,
       exists (select from lockgate.task_runs r
                where r.id = $1 and r.claim_token = $2 and r.claim_id = $3) as held
  from lockgate.run_steps s
 where s.run_id = $1 and s.path = $4
