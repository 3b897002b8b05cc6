-- Asked to end as failed by its holder, who lets go; settle_stop ends it once its batches in flight are back.
with stopping as (
    update lockgate.task_runs
       set stop_status = coalesce(stop_status, 'failed'), stop_reason = coalesce(stop_reason, $4),
           stop_requested_at = coalesce(stop_requested_at, clock_timestamp()),
           claim_id = null, claimed_by = null, lease_until = null, alone = null, wake_at = null
     where id = $1 and claim_token = $2 and claim_id = $3
    returning id, status, claim_token, claimed_at, stop_reason
)
insert into lockgate.transitions (entity, run_id, from_status, to_status, token, replica, since, reason)
select 'run', id, status, 'stopping', claim_token, $5, claimed_at, stop_reason from stopping
