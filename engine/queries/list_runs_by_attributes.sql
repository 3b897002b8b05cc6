-- The same of runs with these attributes, which their index finds, however the rest is planned.
with found as materialized (
    select id from lockgate.task_runs where attributes @> $11
)
select jsonb_build_object(
    'run_id', r.id, 'workflow', r.workflow, 'status', r.status, 'stopping', r.stop_status, 'driven_by', r.driven_by,
    'schedule', r.schedule, 'slot', r.slot, 'singleton_key', r.singleton_key, 'idempotency_key', r.idempotency_key,
    'queue', coalesce(r.queue, r.workflow), 'tenant', r.tenant, 'attributes', r.attributes, 'parent_id', r.parent_id,
    'forked_from', r.forked_from,
    'reason', r.reason, 'actor', r.actor, 'created_at', r.created_at, 'started_at', r.started_at, 'finished_at', r.finished_at)
  from found
  join lockgate.task_runs r using (id)
 where ($1::text is null or r.status = $1) and ($2::text is null or r.workflow = $2)
   and ($4::text is null or coalesce(r.queue, r.workflow) = $4) and ($5::uuid is null or r.parent_id = $5)
   and ($6::text is null or r.schedule = $6) and ($7::text is null or r.tenant = $7)
   and ($8::timestamptz is null or r.created_at >= $8) and ($9::timestamptz is null or r.created_at < $9)
   and ($10::uuid is null or r.id < $10)
 order by r.id desc
 limit $3
