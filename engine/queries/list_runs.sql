-- Newest runs first (ids are in order of time), optionally of one state or workflow.
select jsonb_build_object(
    'run_id', r.id, 'workflow', r.workflow, 'status', r.status, 'stopping', r.stop_status, 'driven_by', r.driven_by,
    'schedule', r.schedule, 'slot', r.slot, 'singleton_key', r.singleton_key, 'idempotency_key', r.idempotency_key,
    'reason', r.reason, 'actor', r.actor, 'created_at', r.created_at, 'started_at', r.started_at, 'finished_at', r.finished_at)
  from lockgate.task_runs r
 where ($1::text is null or r.status = $1) and ($2::text is null or r.workflow = $2)
 order by r.id desc
 limit $3
