-- What a run was given and what came of it, for whoever may see what steps returned; and runs by their attributes.

-- As the owner: whoever is granted them needs no right on the table, and sees nothing else of it.
create function lockgate.run_result(run uuid) returns jsonb
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select convert_from(r.output, 'UTF8')::jsonb
      from lockgate.task_runs r
     where r.id = lockgate.last_run(run_result.run) and r.status = 'completed'
$$;
comment on function lockgate.run_result(uuid) is
    'What a run returned, or the last of those that go on in its place; null (of SQL, not of JSON) while that is not over, when it failed or was cancelled, and where there is no such run';

create function lockgate.run_input(run uuid) returns jsonb
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select convert_from(r.params, 'UTF8')::jsonb from lockgate.task_runs r where r.id = run_input.run
$$;
comment on function lockgate.run_input(uuid) is 'What a run was given; null: there is no such run';

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
            else replace(r.id::text, '-', '') end as trace_id,
       r.attributes
  from lockgate.task_runs r;
comment on view lockgate.v_runs is 'Runs. By key: run_id; attributes by @>; schedule and slot; parent; order by run_id desc limit n. What is not over: v_runs_held, v_stuck; what failed: v_failures';
comment on column lockgate.v_runs.attributes is 'By what it is found: an object of strings, numbers and booleans; null: nothing';

do $$
declare
    role text;
begin
    revoke all on function lockgate.run_result(uuid), lockgate.run_input(uuid) from public;
    -- Not to readers: values may be personal.
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator') loop
        execute format('grant execute on function lockgate.run_result(uuid), lockgate.run_input(uuid) to %I', role);
    end loop;
end $$;
