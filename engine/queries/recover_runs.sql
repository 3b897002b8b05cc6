-- Takes runs from holders whose lease has ended. Two deaths make a suspect, which is claimed apart, and one that has killed
-- too many is set aside for a person: twice as many where its holders had lived with it for a lease each time. A run that recorded
-- something under its last claim begins anew: it is not what the process died of as soon as it was claimed.
with stale as (
    select r.id, r.status as was, r.claimed_by, r.claimed_at, r.claim_token, coalesce(r.alone, false) as alone,
           exists (select from lockgate.run_steps s where s.run_id = r.id and s.claim_token = r.claim_token) as progressed
      from lockgate.task_runs r
     where r.claim_id is not null and r.lease_until < (select clock_timestamp())
     order by r.id
     limit $2
       for no key update skip locked
), recovered as (
    update lockgate.task_runs r
       set claim_id = null, claimed_by = null, lease_until = null, alone = null, attempts = q.attempts,
           status = case when q.guilty then 'quarantined' else r.status end,
           reason = case when q.guilty then 'its code killed ' || q.attempts || ' replicas in a row' else r.reason end,
           wake_at = n.wake_at, rank = n.wake_at - r.priority * interval '15 seconds'
      from stale s
      join lockgate.task_runs w on w.id = s.id
     cross join lateral (
         select case when s.progressed then 1 else w.attempts + 1 end as attempts,
                not s.progressed and w.status = 'running'
                and w.attempts + 1 >= case when s.alone then $1::smallint else $1::smallint * 2 end as guilty) q
     cross join lateral (select case when not q.guilty then clock_timestamp() end as wake_at) n
     where r.id = s.id and r.claim_id is not null and r.lease_until < clock_timestamp()
    returning r.id, s.was, r.status, s.claim_token, s.claimed_by, s.claimed_at
), untold as (
    insert into lockgate.untold (run_id, ended_as) select id, status from recovered where status = 'quarantined'
), audit as (
    insert into lockgate.transitions (entity, run_id, from_status, to_status, token, replica, since, reason)
    select 'run', id, was, status, claim_token, claimed_by, claimed_at, 'lease ended' from recovered
)
select count(*) from recovered
