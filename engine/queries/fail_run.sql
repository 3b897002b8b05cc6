-- The run's row is locked. What is held becomes recoverable: its holders' later writes find their claim gone.
with handed_back as (
    update lockgate.run_batches
       set status = 'recoverable', claim_id = null, claimed_by = null, lease_until = null
     where run_id = $1 and status = 'claimed'
    returning seq, claim_token
), before as (
    select id, status from lockgate.task_runs where id = $1
), over as (
    update lockgate.task_runs r
       set status = 'failed', finished_at = clock_timestamp(), reason = $2
      from before
     where r.id = before.id and r.finished_at is null and r.stop_status is null
    returning r.id, before.status as was
), batch_audit as (
    insert into lockgate.transitions (entity, run_id, batch_seq, from_status, to_status, token, replica, reason)
    select 'batch', $1, seq, 'claimed', 'recoverable', claim_token, $3, 'the run failed' from handed_back
)
insert into lockgate.transitions (entity, run_id, from_status, to_status, replica, reason)
select 'run', id, was, 'failed', $3, $2 from over
