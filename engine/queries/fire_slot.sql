-- Starts the run of a slot with what the schedule says; the same slot again finds the run it has. Its queue, priority, tenant,
-- limit key and attributes the function reads itself.
select started.outcome, started.run_id
  from lockgate.schedules s
 cross join lateral lockgate.try_start_new_run($2, s.workflow, s.params, 'engine', null, null, s.name, $3, $4,
     s.pace_per_s, s.run_deadline, null, null, $5, 'schedule:' || s.name) started
 where s.name = $1
