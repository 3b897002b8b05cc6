-- Asks runs past their deadline to end as failed; a row that somebody has locked is left to the next sweep.
with overdue as (
    select r.id
      from lockgate.task_runs r
     where r.status in ('queued', 'running', 'suspended', 'paused', 'quarantined') and r.stop_status is null
       and r.deadline_at < (select clock_timestamp())
     order by r.deadline_at, r.id
     limit $1
       for no key update skip locked
)
-- All are locked before the first is asked, as in settle_stops.
select count(lockgate.request_stop(o.id, 'failed', 'not over before its deadline', 'lockgate'))
  from unnest(array(select id from overdue)) o (id)
