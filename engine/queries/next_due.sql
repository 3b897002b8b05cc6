-- Seconds until the first run of these queues may go on by itself; null: none will.
select extract(epoch from min(p.due) - clock_timestamp())::double precision
  from unnest($1::text[]) ask (queue)
 cross join lateral (
     select min(s.wake_at) as due
       from ((select r.wake_at from lockgate.task_runs r
               where coalesce(r.queue, r.workflow) = ask.queue and r.wake_at is not null and r.claim_id is null
                 and r.status in ('queued', 'running', 'suspended')
                 -- What could go on already waits for something else, or for who has its code.
                 and coalesce(r.rank, r.wake_at) > (select clock_timestamp())
               order by coalesce(r.rank, r.wake_at)
               limit 32)
             union all
             -- A priority puts a rank before its wake_at, by no more than this. Of what waits so many are looked at, the newest
             -- first; what sleeps behind those is found by the poll.
             (select h.wake_at
                from (select r.wake_at from lockgate.task_runs r
                       where coalesce(r.queue, r.workflow) = ask.queue and r.wake_at is not null and r.claim_id is null
                         and r.status in ('queued', 'running', 'suspended')
                         and coalesce(r.rank, r.wake_at) <= (select clock_timestamp())
                         and coalesce(r.rank, r.wake_at) > (select clock_timestamp()) - interval '5 minutes'
                       order by coalesce(r.rank, r.wake_at) desc
                       limit 100) h
               where h.wake_at > (select clock_timestamp()))) s) p
