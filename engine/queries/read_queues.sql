-- What is set for queues, as far as whoever claims from them needs to know; and, without that, the queues beside those with
-- a workflow's own name in which runs of these workflows wait: a step from each pair of queue and workflow to the next.
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
(select q.name, q.paused_at is not null or q.max_running is not null or q.max_per_key is not null or q.rate_per_s is not null
            or q.fair as limited,
        extract(epoch from q.max_attempt)::double precision as max_attempt
   from lockgate.queues q
  order by q.name
  limit 100000)
union all
(select distinct queue, null::boolean, null::double precision
   from (select queue, workflow from pairs limit 100000) p where workflow = any ($1) order by queue)
