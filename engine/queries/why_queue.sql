-- What the queue of a run keeps it from: what is set for it, who holds its places, who stands before it.
select jsonb_build_object(
    'queue', c.queue, 'waits', c.waits, 'goes_on', c.goes_on, 'limit_key', c.limit_key, 'tenant', c.tenant,
    'priority', c.priority, 'overruns', c.overruns, 'fair', coalesce(q.fair, false),
    'paused_at', q.paused_at, 'paused_by', q.paused_by, 'pause_reason', q.pause_reason,
    'max_running', q.max_running, 'max_per_key', q.max_per_key, 'rate_per_s', q.rate_per_s,
    'tokens', least(q.burst, q.tokens + q.rate_per_s * extract(epoch from clock_timestamp() - q.refilled_at)),
    'holding', h.runs, 'holding_key', h.of_key, 'holders', coalesce(h.first, '[]'), 'key_holders', coalesce(k.first, '[]'),
    'before', b.runs)
  from (select r.status, r.limit_key, r.tenant, r.priority, r.overruns, r.holds, r.claim_id, r.wake_at, r.rank,
               coalesce(r.queue, r.workflow) as of_queue
          from lockgate.task_runs r where r.id = $1) r
 cross join lateral (
     select r.of_queue as queue, r.limit_key, r.tenant, coalesce(r.priority, 0) as priority, coalesce(r.overruns, 0) as overruns,
            coalesce(r.holds = 'run', false) as goes_on,
            coalesce(r.claim_id is null and r.wake_at <= clock_timestamp()
                     and r.status in ('queued', 'running', 'suspended'), false) as waits) c
  left join lockgate.queues q on q.name = r.of_queue
 cross join lateral (
     select count(*) as runs, count(*) filter (where x.limit_key = r.limit_key) as of_key,
            jsonb_agg(jsonb_build_object('run_id', x.id, 'since', x.claimed_at, 'replica', x.claimed_by)
                      order by x.claimed_at) filter (where x.place <= 10) as first
       from (select o.id, o.limit_key, o.claimed_at, o.claimed_by, row_number() over (order by o.claimed_at, o.id) as place
               from lockgate.task_runs o
              where coalesce(o.queue, o.workflow) = r.of_queue and o.holds is not null and o.finished_at is null
                and (o.claim_id is not null or o.holds = 'run')) x) h
 cross join lateral (
     select jsonb_agg(jsonb_build_object('run_id', x.id, 'since', x.claimed_at, 'replica', x.claimed_by)
                      order by x.claimed_at) as first
       from (select o.id, o.claimed_at, o.claimed_by
               from lockgate.task_runs o
              where coalesce(o.queue, o.workflow) = r.of_queue and o.limit_key = r.limit_key and o.holds is not null
                and o.finished_at is null and (o.claim_id is not null or o.holds = 'run')
              order by o.claimed_at, o.id limit 10) x) k
 cross join lateral (
     select count(*) as runs
       from (select from lockgate.task_runs o
              where coalesce(o.queue, o.workflow) = r.of_queue and o.wake_at is not null and o.claim_id is null
                and o.status in ('queued', 'running', 'suspended')
                and coalesce(o.rank, o.wake_at) < coalesce(r.rank, r.wake_at)
                and o.wake_at <= (select clock_timestamp())
              limit 1000) o) b
