-- Schedules by function, for whoever may not write the table, and what the overlap rule reads.
create index task_runs_unfinished_of_schedule on lockgate.task_runs (schedule, slot)
    where schedule is not null and finished_at is null;

create function lockgate.pause_schedule(p_name text) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    update lockgate.schedules set paused_at = clock_timestamp() where name = p_name and paused_at is null;
    return case when exists (select 1 from lockgate.schedules where name = p_name) then 'paused' else 'unknown' end;
end $$;
comment on function lockgate.pause_schedule(text) is
    'Nothing of the schedule fires until it is resumed; its runs go on. Answers paused or unknown';

create function lockgate.resume_schedule(p_name text) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    update lockgate.schedules set paused_at = null where name = p_name and paused_at is not null;
    return case when exists (select 1 from lockgate.schedules where name = p_name) then 'active' else 'unknown' end;
end $$;
comment on function lockgate.resume_schedule(text) is
    'The schedule fires again from now on; what fell due while it was paused does not. Answers active or unknown';

create function lockgate.remove_schedule(p_name text) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    delete from lockgate.schedules where name = p_name;
    return case when found then 'removed' else 'unknown' end;
end $$;
comment on function lockgate.remove_schedule(text) is
    'Removes the schedule; its runs stay and go on. Answers removed or unknown';

do $$
declare
    role text;
begin
    revoke all on function lockgate.pause_schedule(text), lockgate.resume_schedule(text), lockgate.remove_schedule(text)
        from public;
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator') loop
        execute format('grant execute on function lockgate.pause_schedule(text), lockgate.resume_schedule(text),
            lockgate.remove_schedule(text) to %I', role);
    end loop;
end $$;
