-- Children of branches that lost a select are stopped a page at a time, and a retry has as long as the run that it repeats.

alter table lockgate.task_runs add column start_at timestamptz;
comment on column lockgate.task_runs.start_at is 'When it was to start; null: at once. Its deadline counts from then';

do $$
declare
    change record;
    was text;
begin
    for change in select * from (values
        -- Whoever called it calls again, and the sweep if that one died.
        ('stop_lost_children', 'for no key update of c skip locked', 'limit 200 for no key update of c skip locked'),
        ('try_start_new_run', 'deadline_at = due + p_deadline', 'deadline_at = due + p_deadline, start_at = due'),
        ('try_start_new_run', 'parent_id, parent_path, depth, seed_id, forked_from)', 'parent_id, parent_path, depth, seed_id, forked_from, start_at)'),
        ('try_start_new_run', 'p_seed_id, p_forked_from)', 'p_seed_id, p_forked_from, p_wake_at)'),
        ('start_runs', 'deadline_at, pace_per_s, traceparent, actor,', 'deadline_at, start_at, pace_per_s, traceparent, actor,'),
        ('start_runs', 't.due + make_interval(secs => u.deadline_s), u.pace_per_s', 't.due + make_interval(secs => u.deadline_s), u.start_at, u.pace_per_s'),
        ('repeat_run', 'was.deadline_at - was.created_at', 'was.deadline_at - coalesce(was.start_at, was.created_at)'))
        c (name, before, after)
    loop
        select pg_get_functiondef(p.oid) into strict was from pg_proc p
         where p.pronamespace = 'lockgate'::regnamespace and p.proname = change.name;
        if strpos(was, change.before) = 0 then raise exception '% is not as it was', change.name; end if;
        execute replace(was, change.before, change.after);
    end loop;
end $$;
