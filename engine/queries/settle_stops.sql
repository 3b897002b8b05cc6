-- Runs that were asked to stop and of which nothing is held any more.
select count(*) filter (where settled) from (
    select lockgate.settle_stop(r.id) as settled
      from lockgate.task_runs r
     where r.status in ('queued', 'running', 'suspended', 'paused', 'quarantined') and r.stop_status is not null
     limit $1) tried
