-- Gives the claim up until somebody wakes the run; not when a wake-up came since it was read.
update lockgate.task_runs
   set claim_id = null, claimed_by = null, lease_until = null, wake_at = null, attempts = 0
 where id = $1 and claim_token = $2 and claim_id = $3 and wake_seq = $4 and stop_status is null
