-- Opens a fan-out under the run's claim; finds it when it is open already.
insert into lockgate.run_steps (run_id, path, kind, consistent)
select r.id, $4, 'fan_out', $5
  from lockgate.task_runs r
 where r.id = $1 and r.claim_token = $2 and r.claim_id = $3
on conflict do nothing
