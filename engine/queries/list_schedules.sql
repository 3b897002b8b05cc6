-- All schedules, or the one of a name.
select s.name, s.workflow, s.cron, s.timezone, s.params, s.dst_gap, s.dst_fold, s.catch_up, s.catch_up_max,
       extract(epoch from s.catch_up_window)::float8 as window_secs, s.overlap, extract(epoch from s.jitter)::float8 as jitter_secs,
       s.pace_per_s, extract(epoch from s.run_deadline)::float8 as deadline_secs, s.queue, coalesce(s.priority, 0::smallint) as priority,
       s.tenant, s.limit_key, s.attributes, s.paused_at, s.last_slot,
       nullif(s.next_slot, 'infinity') as next_slot, s.active_from, s.problem, s.revision, clock_timestamp() as now
  from lockgate.schedules s
 where $1::text is null or s.name = $1
 order by s.name
