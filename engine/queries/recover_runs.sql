-- Takes runs from holders whose lease has ended; a run that has killed too many is set aside for a person.
with stale as (
    select r.id
      from lockgate.task_runs r
     where r.claim_id is not null and r.lease_until < (select clock_timestamp())
     order by r.id
     limit $2
       for no key update skip locked
), recovered as (
    update lockgate.task_runs r
       set claim_id = null, claimed_by = null, lease_until = null, attempts = r.attempts + 1,
           wake_at = clock_timestamp(),
           status = case when r.attempts + 1 >= $1 and r.status = 'running' then 'quarantined' else r.status end,
           reason = case when r.attempts + 1 >= $1 and r.status = 'running' then 'its code killed ' || (r.attempts + 1) || ' replicas in a row' else r.reason end
      from stale, lockgate.task_runs was
     where r.id = stale.id and was.id = r.id and r.claim_id is not null and r.lease_until < clock_timestamp()
    returning r.id, was.status as was, r.status, r.claim_token, was.claimed_by
)
insert into lockgate.transitions (entity, run_id, from_status, to_status, token, replica, reason)
select 'run', id, was, status, claim_token, claimed_by, 'lease ended' from recovered
