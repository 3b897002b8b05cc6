-- Runs past their deadline are asked to end as failed.
select count(*) from (
    select lockgate.request_stop(r.id, 'failed', 'not over before its deadline', 'lockgate') as answer
      from lockgate.task_runs r
     where r.status in ('queued', 'running', 'suspended', 'paused', 'quarantined') and r.stop_status is null
       and r.deadline_at < (select clock_timestamp())
     limit $1) stopped
