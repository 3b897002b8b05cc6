-- The same of a state in which runs are not over. However many are over: each run that is not is in one of three partial
-- indexes, of what is held, what rests, and what is ready or has a time; those in which the state cannot be are left out of a
-- plan that is made for it. The last one is in the order of queues: where it has more than are to be looked at ($11), one row
-- says so.
with ready as materialized (
    select t.id
      from lockgate.task_runs t
     where $1 in ('queued', 'running', 'suspended') and t.wake_at is not null and t.claim_id is null
       and t.status in ('queued', 'running', 'suspended')
     order by coalesce(t.queue, t.workflow), coalesce(t.rank, t.wake_at), t.wake_at
     limit $11 + 1
), claimed as materialized (
    select t.id
      from lockgate.task_runs t
     where $1 in ('running', 'paused') and t.claim_id is not null and t.id < coalesce($10::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
       and (select count(*) from ready) <= $11
     order by t.id desc
     limit $11
), resting as materialized (
    select t.id
      from lockgate.task_runs t
     where t.claim_id is null and t.finished_at is null and (t.wake_at is null or t.status in ('paused', 'quarantined'))
       and t.id < coalesce($10::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff') and (select count(*) from ready) <= $11
     order by t.id desc
     limit $11
), stopped as (
    -- Where the first of these looks ended before it had seen all: what is behind that the next one finds.
    select m.id
      from ((select id from claimed order by id desc offset $11 - 1 limit 1)
            union all
            (select id from resting order by id desc offset $11 - 1 limit 1)) m
     order by m.id desc
     limit 1
), page as materialized (
    select r.*
      from (select id from claimed
            union all
            select id from resting
            union all
            select id from ready where (select count(*) from ready) <= $11) c
     cross join lateral (
         select t.id, t.workflow, t.status, t.stop_status, t.driven_by, t.schedule, t.slot, t.singleton_key, t.idempotency_key,
                t.queue, t.tenant, t.attributes, t.parent_id, t.forked_from, t.reason, t.actor, t.created_at, t.started_at,
                t.finished_at
           from lockgate.task_runs t where t.id = c.id limit 1) r
     where r.id < coalesce($10::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
       and r.id >= coalesce((select id from stopped), '00000000-0000-0000-0000-000000000000')
       and ($1::text is null or r.status = $1) and ($2::text is null or r.workflow = $2)
       and ($4::text is null or coalesce(r.queue, r.workflow) = $4) and ($5::uuid is null or r.parent_id = $5)
       and ($6::text is null or r.schedule = $6) and ($7::text is null or r.tenant = $7)
       and ($8::timestamptz is null or r.created_at >= $8) and ($9::timestamptz is null or r.created_at < $9)
       and ($12::jsonb is null or r.attributes @> $12)
     order by r.id desc
     limit $3
)
select run, next, too_many
  from (select r.id, jsonb_build_object(
           'run_id', r.id, 'workflow', r.workflow, 'status', r.status, 'stopping', r.stop_status, 'driven_by', r.driven_by,
           'schedule', r.schedule, 'slot', r.slot, 'singleton_key', r.singleton_key, 'idempotency_key', r.idempotency_key,
           'queue', coalesce(r.queue, r.workflow), 'tenant', r.tenant, 'attributes', r.attributes, 'parent_id', r.parent_id,
           'forked_from', r.forked_from, 'reason', r.reason, 'actor', r.actor, 'created_at', r.created_at,
           'started_at', r.started_at, 'finished_at', r.finished_at) as run, null::uuid as next, false as too_many
          from page r
        union all
        select null, null, id, false from stopped where (select count(*) from page) < $3
        union all
        select null, null, null, true where (select count(*) from ready) > $11) p
 order by id desc nulls last
