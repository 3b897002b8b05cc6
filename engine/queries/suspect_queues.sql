-- Queues with runs that holders died on.
select distinct coalesce(r.queue, r.workflow)
  from lockgate.task_runs r
 where r.attempts >= 2 and r.wake_at is not null and r.claim_id is null and r.status in ('queued', 'running', 'suspended')
 limit 10000
