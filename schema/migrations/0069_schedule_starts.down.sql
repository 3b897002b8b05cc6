drop view lockgate.v_schedules_next;
create view lockgate.v_schedules_next as
select s.name as schedule,
       s.workflow,
       s.cron,
       s.timezone,
       s.paused_at,
       s.last_slot,
       s.next_slot,
       case when s.paused_at is null and s.problem is null and isfinite(s.next_slot)
            then greatest(extract(epoch from statement_timestamp() - s.next_slot), 0)::float8 end as late_s,
       s.overlap,
       s.catch_up,
       s.problem,
       r.id as last_run,
       r.status as last_status,
       r.slot as last_run_slot,
       r.finished_at as last_finished_at
  from lockgate.schedules s
  left join lateral (
      select t.id, t.status, t.slot, t.finished_at from lockgate.task_runs t
       where t.schedule = s.name and t.slot is not null order by t.slot desc limit 1) r on true;
comment on view lockgate.v_schedules_next is 'Schedules, when they fire next, and how their last run is. By key: schedule; where paused_at is null order by next_slot limit n';
comment on column lockgate.v_schedules_next.schedule is 'Its name';
comment on column lockgate.v_schedules_next.late_s is 'Seconds its next slot is overdue; null: it does not fire';
comment on column lockgate.v_schedules_next.last_run is 'Run of its newest slot that has one';
comment on column lockgate.v_schedules_next.last_status is 'State of that run';
comment on column lockgate.v_schedules_next.last_run_slot is 'Slot of that run';
comment on column lockgate.v_schedules_next.last_finished_at is 'When that run was over';

do $$
declare
    first text := '    if p_slot is not null and p_driven_by = ''engine'' then';
    last text := '    if p_debounce_key is not null then';
    was text := pg_get_functiondef(p.oid) from pg_proc p
        where p.pronamespace = 'lockgate'::regnamespace and p.proname = 'try_start_new_run';
    part text := substr(was, strpos(was, first), strpos(was, last) - strpos(was, first));
begin
    if strpos(was, first) = 0 then raise exception 'try_start_new_run is not as it was'; end if;
    execute replace(was, part, '');
end $$;

alter table lockgate.schedules
    drop column queue, drop column priority, drop column tenant, drop column limit_key, drop column attributes;

do $$
declare
    uncommented record;
    role text;
begin
    -- A column that is one of its table's means what it means there.
    for uncommented in
        select a.attname as name, col_description(b.attrelid, b.attnum) as meaning
          from pg_attribute a
          join pg_attribute b on b.attrelid = 'lockgate.schedules'::regclass and b.attnum > 0 and b.attname = a.attname
         where a.attrelid = 'lockgate.v_schedules_next'::regclass and a.attnum > 0
           and col_description(a.attrelid, a.attnum) is null
    loop
        execute format('comment on column lockgate.v_schedules_next.%I is %L', uncommented.name, uncommented.meaning);
    end loop;
    revoke all on lockgate.v_schedules_next from public;
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator', 'lockgate_reader') loop
        execute format('grant select on lockgate.v_schedules_next to %I', role);
    end loop;
end $$;
