-- What must not last once nothing is broken any more. $1: how long it may, in seconds.
select 'L01' as invariant, format('%s/%s', run_id, seq) as subject, format('lease ended at %s', lease_until) as detail
  from lockgate.run_batches
 where status = 'claimed' and lease_until < clock_timestamp() - make_interval(secs => $1)
union all
select 'L01', id::text, format('the run''s lease ended at %s', lease_until)
  from lockgate.task_runs where claim_id is not null and lease_until < clock_timestamp() - make_interval(secs => $1)
union all
select 'L02', format('%s %s', s.run_id, s.path), 'every batch is finished, the step is not'
  from lockgate.task_runs r
  join lockgate.run_steps s on s.run_id = r.id
 where r.finished_at is null and r.status <> 'paused' and s.status = 'open'
   and s.planned_at < clock_timestamp() - make_interval(secs => $1)
   and not exists (select 1 from lockgate.run_batches b
                    where b.run_id = s.run_id and b.step = s.path
                      and (b.status not in ('done', 'split')
                           or b.finished_at > clock_timestamp() - make_interval(secs => $1)))
union all
select 'L03', id::text, format('%s, could go on since %s', status, wake_at)
  from lockgate.task_runs
 where status in ('queued', 'running', 'suspended') and stop_status is null and driven_by = 'engine'
   and claim_id is null and wake_at < clock_timestamp() - make_interval(secs => $1)
   and not exists (select 1 from lockgate.task_runs e where e.id = lockgate.last_run(after_run) and e.finished_at is null)
union all
select 'L03', r.id::text, format('waits for a run that is over since %s', e.finished_at)
  from lockgate.task_runs r join lockgate.task_runs e on e.id = lockgate.last_run(r.after_run)
 where r.status = 'queued' and r.wake_at is null and r.stop_status is null
   and e.finished_at < clock_timestamp() - make_interval(secs => $1)
union all
select 'L03', id::text, format('asked to stop at %s', stop_requested_at)
  from lockgate.task_runs
 where finished_at is null and stop_requested_at < clock_timestamp() - make_interval(secs => $1)
union all
select 'L04', pid::text, format('%s since %s', state, state_change)
  from pg_stat_activity
 where datname = current_database() and application_name = 'lockgate' and state like 'idle in transaction%'
   and state_change < clock_timestamp() - make_interval(secs => $1)
union all
select 'L05', a.pid::text, format('%s, but holds advisory lock %s', a.state, l.objid)
  from pg_locks l join pg_stat_activity a using (pid)
 where l.locktype = 'advisory' and a.datname = current_database() and a.application_name = 'lockgate' and a.state = 'idle'
   and a.state_change < clock_timestamp() - make_interval(secs => $1)
union all
select 'L06', name, format('nobody leads since %s', expires_at)
  from lockgate.leader_lease where expires_at < clock_timestamp() - make_interval(secs => $1)
union all
select 'L07', pid::text, format('snapshot of a transaction begun at %s', xact_start)
  from pg_stat_activity
 where datname = current_database() and application_name = 'lockgate' and backend_xmin is not null
   and xact_start < clock_timestamp() - make_interval(secs => $1)
union all
select 'L08', id::text, format('%s, could have been sent since %s', status, next_attempt_at)
  from lockgate.undelivered_messages
 where status in ('due', 'claimed') and next_attempt_at < clock_timestamp() - make_interval(secs => $1)
   and coalesce(lease_until, '-infinity') < clock_timestamp() - make_interval(secs => $1)
union all
select 'L09', c.id::text, format('%s, though run %s, which started it, is over since %s', c.status, p.id, p.finished_at)
  from lockgate.task_runs c
  join lockgate.task_runs p on p.id = c.parent_id
 where c.finished_at is null and c.stop_status is null and c.detached is null
   and p.finished_at < clock_timestamp() - make_interval(secs => $1)
union all
select 'L09', format('%s %s', s.run_id, s.path), format('waits for a child of a run that is over since %s', r.finished_at)
  from lockgate.run_steps s
  join lockgate.task_runs r on r.id = s.run_id
 where s.kind = 'child' and s.status = 'open' and r.finished_at < clock_timestamp() - make_interval(secs => $1)
union all
select 'L10', r.id::text, format('sleeps, though its child %s is over since %s', c.id, c.finished_at)
  from lockgate.task_runs r
  join lockgate.run_steps s on s.run_id = r.id and s.kind = 'child' and s.status = 'open'
  join lockgate.task_runs c on c.parent_id = s.run_id and c.parent_path = s.path and c.continued_as is null
 where r.status = 'suspended' and r.claim_id is null and (r.wake_at is null or r.wake_at > clock_timestamp())
   and c.finished_at < clock_timestamp() - make_interval(secs => $1)
