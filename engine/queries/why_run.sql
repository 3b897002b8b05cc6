-- What may hold a run: its own row, what goes before it, its plan, its batches and who holds them.
select jsonb_build_object(
    'now', clock_timestamp(), 'workflow', r.workflow, 'status', r.status, 'caller_driven', r.driven_by = 'caller',
    'reason', r.reason, 'finished_at', r.finished_at, 'started_at', r.started_at,
    'code_version', case when r.started_at is not null then coalesce(r.code_version, 1) end, 'wake_at', r.wake_at,
    'pace_next_at', case when r.pace_per_s is not null then nullif(r.pace_next_at, '-infinity') end,
    'stop_status', r.stop_status, 'stop_reason', r.stop_reason, 'stop_requested_at', r.stop_requested_at,
    'undoing', coalesce(r.undoing, false),
    'claimed_by', r.claimed_by, 'lease_until', r.lease_until,
    'halted_at', case when r.status in ('paused', 'quarantined') then (
        select max(t.at) from lockgate.transitions t
         where t.run_id = r.id and t.entity = 'run' and t.to_status = r.status) end,
    'earlier', (
        select jsonb_build_object('run_id', e.id, 'status', e.status, 'schedule', r.schedule)
          from lockgate.task_runs e where e.id = lockgate.waited_for(r.after_run)),
    'planning', (select min(s.path) from lockgate.run_steps s
                  where s.run_id = r.id and s.kind = 'fan_out' and s.status = 'open' and s.planned_at is null),
    'plan_trouble', (select s.plan_trouble from lockgate.run_steps s
                      where s.run_id = r.id and s.kind = 'fan_out' and s.status = 'open' and s.planned_at is null
                      order by s.path limit 1),
    'waits', coalesce((
        select jsonb_agg(to_jsonb(w) order by w.step)
          from (select s.path as step, s.kind, s.due_at as until, c.id as child, c.status as child_status
                  from lockgate.run_steps s
                  left join lockgate.task_runs c
                    on s.kind = 'child' and c.parent_id = s.run_id and c.parent_path = s.path and c.continued_as is null
                 where s.run_id = r.id and s.kind <> 'fan_out' and s.status = 'open'
                 -- Children that somebody must look at first, and those that are at work.
                 order by c.status is distinct from 'quarantined', s.path limit 10) w), '[]'),
    'fan_out_open', exists (select 1 from lockgate.run_steps s
                             where s.run_id = r.id and s.kind = 'fan_out' and s.status = 'open'),
    'free', b.free, 'later', b.later, 'next_not_before', b.next_not_before, 'finished_last_minute', b.finished_last_minute,
    'holders', coalesce((
        select jsonb_agg(to_jsonb(h) order by h.held desc, h.replica)
          from (select c.claimed_by as replica,
                       count(*) filter (where c.lease_until >= (select clock_timestamp())) as held,
                       max(c.lease_until) filter (where c.lease_until >= (select clock_timestamp())) as until,
                       count(*) filter (where c.lease_until < (select clock_timestamp())) as overdue,
                       min(c.lease_until) filter (where c.lease_until < (select clock_timestamp())) as overdue_since
                  from lockgate.run_batches c where c.run_id = r.id and c.status = 'claimed' group by c.claimed_by) h), '[]'))
  from lockgate.task_runs r
 cross join lateral (
     select count(*) filter (where x.status in ('free', 'recoverable') and x.not_before <= (select clock_timestamp())) as free,
            count(*) filter (where x.status in ('free', 'recoverable') and x.not_before > (select clock_timestamp())) as later,
            min(x.not_before) filter (where x.status in ('free', 'recoverable') and x.not_before > (select clock_timestamp())) as next_not_before,
            count(*) filter (where x.status = 'done' and x.finished_at > (select clock_timestamp()) - interval '1 minute') as finished_last_minute
       from lockgate.run_batches x where x.run_id = r.id) b
 where r.id = $1
