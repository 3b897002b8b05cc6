-- Gives the claim up; the run's code is run again after the delay.
with back as (
    update lockgate.task_runs
       set claim_id = null, claimed_by = null, lease_until = null,
           wake_at = clock_timestamp() + make_interval(secs => $4)
     where id = $1 and claim_token = $2 and claim_id = $3
    returning id, status, claim_token
)
insert into lockgate.transitions (entity, run_id, from_status, to_status, token, reason)
select 'run', id, status, status, claim_token, 'handed back' from back
