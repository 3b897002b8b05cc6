-- Queues, beside those with a workflow's own name, in which runs of these workflows wait: a step from each pair of queue
-- and workflow to the next.
with recursive pairs (queue, workflow) as (
    (select r.queue, r.workflow from lockgate.task_runs r
      where r.queue is not null and r.wake_at is not null and r.claim_id is null
        and r.status in ('queued', 'running', 'suspended')
      order by 1, 2 limit 1)
    union all
    select x.queue, x.workflow
      from pairs p
     cross join lateral (
         select r.queue, r.workflow from lockgate.task_runs r
          where (r.queue, r.workflow) > (p.queue, p.workflow) and r.queue is not null and r.wake_at is not null
            and r.claim_id is null and r.status in ('queued', 'running', 'suspended')
          order by 1, 2 limit 1) x
)
select distinct queue from (select queue, workflow from pairs limit 100000) p where workflow = any ($1) order by queue
