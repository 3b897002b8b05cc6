do $$
declare
    was text := pg_get_functiondef('lockgate.repeat_run(uuid, uuid, text, text, bytea, boolean, text, text)'::regprocedure);
begin
    execute replace(was, 'told, lockgate.trace_link(p_run, was.traceparent),', 'told, was.traceparent,');
end $$;

create or replace view lockgate.v_runs as
select r.id as run_id,
       r.workflow,
       coalesce(r.queue, r.workflow) as queue,
       r.status,
       r.stop_status as stopping,
       coalesce(r.undoing, false) as undoing,
       r.schedule,
       r.slot,
       r.created_at,
       r.started_at,
       r.finished_at,
       extract(epoch from coalesce(r.finished_at, statement_timestamp()) - r.created_at)::float8 as age_s,
       r.claimed_by as holder,
       r.lease_until,
       r.wake_at,
       r.deadline_at,
       r.claim_token as claims,
       r.attempts,
       r.priority,
       r.tenant,
       r.limit_key,
       r.holds,
       r.code_version,
       r.reason,
       r.actor,
       r.parent_id,
       r.parent_path,
       r.origin_id,
       r.forked_from,
       r.continued_as,
       coalesce(substr(r.traceparent, 4, 32), replace(r.id::text, '-', '')) as trace_id
  from lockgate.task_runs r;

comment on column lockgate.task_runs.traceparent is 'W3C trace context of the start';
drop function lockgate.trace_link(uuid, text);
