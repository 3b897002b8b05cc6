-- Writes down what reading a source met, for whoever asks why the run does not move; only under the run's claim.
update lockgate.run_steps s
   set plan_trouble = $5
  from lockgate.task_runs r
 where s.run_id = $1 and s.path = $2 and s.planned_at is null
   and r.id = s.run_id and r.claim_token = $3 and r.claim_id = $4
