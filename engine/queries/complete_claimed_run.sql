-- Success, by the holder of the run, once no batch of it is unfinished.
with over as (
    update lockgate.task_runs r
       set status = 'completed', output = $4, finished_at = clock_timestamp(), wake_at = null,
           claim_id = null, claimed_by = null, lease_until = null
     where r.id = $1 and r.claim_token = $2 and r.claim_id = $3 and r.stop_status is null and r.status = 'running'
       and not exists (select 1 from lockgate.run_batches b where b.run_id = $1 and b.status in ('free', 'recoverable'))
       and not exists (select 1 from lockgate.run_batches b where b.run_id = $1 and b.status = 'claimed')
    returning r.id, r.claim_token
)
insert into lockgate.transitions (entity, run_id, from_status, to_status, token)
select 'run', id, 'running', 'completed', claim_token from over
