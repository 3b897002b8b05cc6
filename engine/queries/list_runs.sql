-- Newest runs first (ids are in order of time), those that fit all that is given, behind an id. It looks at so many ($11) at
-- most: a last row without a run says where it stopped, when that was before the page was full.
with page as materialized (
    select r.*
      from (select t.id, t.workflow, t.status, t.stop_status, t.driven_by, t.schedule, t.slot, t.singleton_key, t.idempotency_key,
                   t.queue, t.tenant, t.attributes, t.parent_id, t.forked_from, t.reason, t.actor, t.created_at, t.started_at,
                   t.finished_at
              from lockgate.task_runs t
             where t.id < coalesce($10::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
             order by t.id desc
             limit $11) r
     where ($1::text is null or r.status = $1) and ($2::text is null or r.workflow = $2)
       and ($4::text is null or coalesce(r.queue, r.workflow) = $4) and ($5::uuid is null or r.parent_id = $5)
       and ($6::text is null or r.schedule = $6) and ($7::text is null or r.tenant = $7)
       and ($8::timestamptz is null or r.created_at >= $8) and ($9::timestamptz is null or r.created_at < $9)
       and ($12::jsonb is null or r.attributes @> $12)
     order by r.id desc
     limit $3
), stopped as (
    select t.id
      from lockgate.task_runs t
     where t.id < coalesce($10::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff') and (select count(*) from page) < $3
     order by t.id desc
    offset $11 - 1 limit 1
)
select run, next, false as too_many
  from (select r.id, jsonb_build_object(
           'run_id', r.id, 'workflow', r.workflow, 'status', r.status, 'stopping', r.stop_status, 'driven_by', r.driven_by,
           'schedule', r.schedule, 'slot', r.slot, 'singleton_key', r.singleton_key, 'idempotency_key', r.idempotency_key,
           'queue', coalesce(r.queue, r.workflow), 'tenant', r.tenant, 'attributes', r.attributes, 'parent_id', r.parent_id,
           'forked_from', r.forked_from, 'reason', r.reason, 'actor', r.actor, 'created_at', r.created_at,
           'started_at', r.started_at, 'finished_at', r.finished_at) as run, null::uuid as next
          from page r
        union all
        select null, null, id from stopped) p
 order by id desc nulls last
