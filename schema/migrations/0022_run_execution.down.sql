create or replace function lockgate.resume_run(run uuid, actor text default null) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    was lockgate.task_runs;
    next_status text;
begin
    select * into was from lockgate.task_runs r where r.id = run for no key update;
    if not found then return 'unknown'; end if;
    if was.status not in ('paused', 'quarantined') then return was.status; end if;
    next_status := case when was.started_at is null then 'queued' else 'running' end;
    update lockgate.task_runs r
       set status = next_status, reason = null, attempts = 0, wake_seq = r.wake_seq + 1,
           wake_at = case r.driven_by when 'engine' then greatest(r.wake_at, clock_timestamp()) end
     where r.id = run;
    insert into lockgate.transitions (entity, run_id, from_status, to_status, actor, reason)
    values ('run', run, was.status, next_status, lockgate.acting_user(resume_run.actor), 'resumed');
    perform pg_notify('lockgate_wake', 'run');
    return next_status;
end $$;

delete from lockgate.run_steps where kind <> 'fan_out' or not exists (select from lockgate.task_runs r where r.id = run_id);
drop index lockgate.run_steps_fan_outs;
create index run_steps_open on lockgate.run_steps (run_id) where status = 'open' and planned_at is not null;
alter table lockgate.run_steps set (fillfactor = 70);
alter table lockgate.run_steps
    drop constraint run_steps_fan_out_check,
    drop constraint run_steps_status_check,
    drop constraint run_steps_kind_check,
    drop column claim_token,
    drop column attempts,
    drop column due_at,
    alter column planned_batches set not null,
    alter column planned_items set not null,
    alter column consistent set not null,
    alter column result set storage extended,
    alter column path type text collate "default",
    add constraint run_steps_kind_check check (kind in ('fan_out')),
    add constraint run_steps_status_check check (status in ('open', 'completed')),
    add constraint run_steps_run_id_fkey foreign key (run_id) references lockgate.task_runs on delete cascade;
comment on column lockgate.run_steps.kind is 'fan_out: covers many items';
comment on column lockgate.run_steps.status is 'open or completed';
comment on column lockgate.run_steps.consistent is 'Planned from one snapshot; nothing is claimed before the plan is whole';
comment on column lockgate.run_steps.result is 'What the step returned, exact bytes of a JSON document';
comment on column lockgate.run_steps.finished_at is 'When it was completed';

drop index lockgate.transitions_by_time;
create index transitions_by_time on lockgate.transitions using brin (at);
alter table lockgate.transitions drop column since;

create index task_runs_active on lockgate.task_runs (status, id)
    where status in ('queued', 'running', 'suspended', 'paused', 'quarantined');
create index task_runs_wakeable on lockgate.task_runs (wake_at) where claim_id is null and wake_at is not null;
drop index lockgate.task_runs_resting;
drop index lockgate.task_runs_ready;
alter table lockgate.task_runs set (fillfactor = 70);
alter table lockgate.task_runs
    drop column seed_id,
    drop column alone,
    drop column claimed_at,
    drop column code_version,
    drop column rank,
    drop column priority,
    drop column queue;
do $$ begin
    if exists (select 1 from pg_roles where rolname = 'lockgate_reader') then
        revoke select (claim_id) on lockgate.task_runs from lockgate_reader;
    end if;
end $$;
