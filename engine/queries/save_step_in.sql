-- A checkpoint in the transaction of the workflow's own rows, which ends an open row where a try before has left one; no
-- row: the run is somebody else's, or the step is recorded.
insert into lockgate.run_steps (run_id, path, kind, status, result, started_at, finished_at, attempts, claim_token,
                                consistent, planned_items, planned_batches)
select r.id, $4, $5, $6, $7, $8, $9, nullif($10::smallint, 0), r.claim_token, null, null, null
  from lockgate.task_runs r
 where r.id = $1 and r.claim_token = $2 and r.claim_id = $3
on conflict (run_id, path) do update
   set status = excluded.status, result = excluded.result, finished_at = excluded.finished_at,
       attempts = excluded.attempts, due_at = null, claim_token = excluded.claim_token
 where run_steps.status = 'open' and run_steps.kind = excluded.kind
