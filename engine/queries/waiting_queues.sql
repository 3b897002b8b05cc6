-- Which of these queues have a run that may go on now, as far as the index says.
select ask.queue
  from unnest($1::text[]) ask (queue)
 where exists (
       select from lockgate.task_runs r
        where coalesce(r.queue, r.workflow) = ask.queue and r.wake_at is not null and r.claim_id is null
          and r.status in ('queued', 'running', 'suspended')
          and coalesce(r.rank, r.wake_at) <= (select clock_timestamp()) and r.wake_at <= (select clock_timestamp()))
