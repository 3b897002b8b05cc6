drop view lockgate.v_runs;
create view lockgate.v_runs as
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
comment on view lockgate.v_runs is 'Runs. By key: run_id; schedule and slot; parent; order by run_id desc limit n. What is not over: v_runs_held, v_stuck; what failed: v_failures';
comment on column lockgate.v_runs.run_id is 'The run; ids are in order of time';
comment on column lockgate.v_runs.queue is 'From where it is claimed';
comment on column lockgate.v_runs.stopping is
    'How it ends once nothing of it is held and what it did is undone; null: it was not asked to';
comment on column lockgate.v_runs.undoing is 'Whether its code undoes what it did';
comment on column lockgate.v_runs.age_s is 'Seconds from its start to its end, or to now';
comment on column lockgate.v_runs.holder is 'Replica that runs its code now';
comment on column lockgate.v_runs.claims is 'How often its code was taken up';
comment on column lockgate.v_runs.trace_id is 'Its trace';

do $$
declare
    uncommented record;
begin
    -- A column that is one of its table's means what it means there.
    for uncommented in
        select a.attname as name, col_description(b.attrelid, b.attnum) as meaning
          from pg_attribute a
          join pg_attribute b on b.attrelid = 'lockgate.task_runs'::regclass and b.attnum > 0 and b.attname = a.attname
         where a.attrelid = 'lockgate.v_runs'::regclass and a.attnum > 0 and col_description(a.attrelid, a.attnum) is null
    loop
        execute format('comment on column lockgate.v_runs.%I is %L', uncommented.name, uncommented.meaning);
    end loop;
end $$;

do $$
declare
    role text;
begin
    revoke all on lockgate.v_runs from public;
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator', 'lockgate_reader') loop
        execute format('grant select on lockgate.v_runs to %I', role);
    end loop;
end $$;

drop function lockgate.run_input(uuid);
drop function lockgate.run_result(uuid);
