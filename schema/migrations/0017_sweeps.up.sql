-- What the sweep looks for is rare among runs that are not over, of which sleepers may be a million.

-- stop_overdue_runs
create index task_runs_overdue on lockgate.task_runs (deadline_at)
    where status in ('queued', 'running', 'suspended', 'paused', 'quarantined') and stop_status is null
      and deadline_at is not null;
-- settle_stops
create index task_runs_stopping on lockgate.task_runs (id)
    where status in ('queued', 'running', 'suspended', 'paused', 'quarantined') and stop_status is not null;
-- idle_fan_outs
create index run_steps_open on lockgate.run_steps (run_id) where status = 'open' and planned_at is not null;
