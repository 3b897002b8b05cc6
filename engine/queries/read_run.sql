-- A run as its workflow's code sees it.
select id, claim_token, workflow, params, origin_id, slot, created_at, traceparent, wake_seq
  from lockgate.task_runs
 where id = $1 and finished_at is null
