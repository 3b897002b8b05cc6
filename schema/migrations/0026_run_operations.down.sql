do $$ begin
    if exists (select 1 from pg_roles where rolname = 'lockgate_reader') then
        revoke select (run_id, path, kind, status, consistent, plan_cursor, planned_items, planned_batches, planned_at, plan_trouble,
            started_at, finished_at, due_at, attempts, claim_token) on lockgate.run_steps from lockgate_reader;
        grant select on lockgate.run_steps to lockgate_reader;
        revoke select (parent_id, parent_path, depth, continued_as, undoing, tenant, limit_key, attributes, forked_from)
            on lockgate.task_runs from lockgate_reader;
    end if;
end $$;
drop function lockgate.backfill_schedule(text, timestamptz[], integer, boolean, text, timestamptz[]);
drop function lockgate.run_timeline(uuid, text, integer, boolean);
drop function lockgate.fork_run(uuid, jsonb, text, boolean, text, text);
drop function lockgate.retry_run(uuid, text, text, text);
drop function lockgate.repeated(text, uuid, text, record);
drop function lockgate.repeat_run(uuid, uuid, text, text, bytea, boolean, text, text);
drop function lockgate.find_step(uuid, text);
drop function lockgate.steps_before(uuid, text[]);
drop function lockgate.step_order(integer[], integer[]);
drop function lockgate.step_place(text);
comment on column lockgate.task_runs.started_at is 'When its code ran first';
drop index lockgate.task_runs_forks;
drop index lockgate.task_runs_attributes;
alter table lockgate.task_runs
    drop constraint task_runs_attributes_fit,
    drop column nominal_at,
    drop column repeats_slot;
