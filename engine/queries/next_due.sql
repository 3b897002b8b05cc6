-- Seconds until the first run of these queues may go on by itself; null: none will.
select extract(epoch from min(p.due) - clock_timestamp())::double precision
  from unnest($1::text[]) ask (queue)
 cross join lateral (
     select r.wake_at as due
       from lockgate.task_runs r
      where coalesce(r.queue, r.workflow) = ask.queue
        and r.wake_at is not null and r.claim_id is null and r.status in ('queued', 'running', 'suspended')
        -- What could go on already waits for something else, or for who has its code.
        and coalesce(r.rank, r.wake_at) > (select clock_timestamp())
      order by coalesce(r.rank, r.wake_at)
      limit 1) p
