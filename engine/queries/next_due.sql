-- Seconds until the first run of these queues may go on by itself; null: none will.
select extract(epoch from min(p.due) - clock_timestamp())::double precision
  from unnest($1::text[]) ask (queue)
 cross join lateral (
     select min(s.wake_at) as due
       from (select r.wake_at
               from lockgate.task_runs r
              where coalesce(r.queue, r.workflow) = ask.queue
                and r.wake_at is not null and r.claim_id is null and r.status in ('queued', 'running', 'suspended')
                -- What could go on already waits for something else, or for who has its code.
                and r.wake_at > (select clock_timestamp())
                -- A priority puts a rank before its wake_at, by no more than this: the first by rank need not be the first due.
                and coalesce(r.rank, r.wake_at) > (select clock_timestamp()) - interval '5 minutes'
              order by coalesce(r.rank, r.wake_at)
              limit 32) s) p
