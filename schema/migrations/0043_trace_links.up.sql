-- Runs that come of others (children, successors, those done again) have a trace of their own, linked to where they come
-- from: what a row has in place of a trace context then says to what.
create function lockgate.trace_link(p_run uuid, p_traceparent text) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $$
    select concat_ws('-', 'ln', case when p_traceparent like '00-%' then substr(p_traceparent, 4, 32) else i.hex end,
                     right(i.hex, 16), coalesce(right(p_traceparent, 2), 'ff'))
      from (select replace(p_run::text, '-', '') as hex) i
$$;
comment on function lockgate.trace_link(uuid, text) is
    'What task_runs.traceparent of a run says that comes of a run with this id and traceparent: the span of that run, and whether it is recorded (ff: that was not decided)';
revoke all on function lockgate.trace_link(uuid, text) from public;

comment on column lockgate.task_runs.traceparent is
    'W3C trace context of the start; with ln in place of its version, the span of the run from which this one comes, to which its own trace is linked';

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
       case when r.traceparent like '00-%' then substr(r.traceparent, 4, 32)
            else replace(r.id::text, '-', '') end as trace_id
  from lockgate.task_runs r;

-- One word of a long function: what a run that is done again has in place of the context of the other's start.
do $$
declare
    was text := pg_get_functiondef('lockgate.repeat_run(uuid, uuid, text, text, bytea, boolean, text, text)'::regprocedure);
begin
    if strpos(was, 'told, was.traceparent,') = 0 then raise exception 'repeat_run is not as it was'; end if;
    execute replace(was, 'told, was.traceparent,', 'told, lockgate.trace_link(p_run, was.traceparent),');
    if exists (select from pg_roles where rolname = 'lockgate_engine') then
        grant execute on function lockgate.trace_link(uuid, text) to lockgate_engine;
    end if;
end $$;
