-- Makes a schedule what it is told to be; a pause stays. No row: it already was.
insert into lockgate.schedules as s (name, workflow, cron, timezone, params, dst_gap, dst_fold, catch_up, catch_up_max,
    catch_up_window, overlap, jitter, pace_per_s, run_deadline, queue, priority, tenant, limit_key, attributes)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, make_interval(secs => $10), $11, make_interval(secs => $12), $13,
    make_interval(secs => $14), $15, $16, $17, $18, $19)
on conflict (name) do update
   set workflow = excluded.workflow, cron = excluded.cron, timezone = excluded.timezone, params = excluded.params,
       dst_gap = excluded.dst_gap, dst_fold = excluded.dst_fold, catch_up = excluded.catch_up,
       catch_up_max = excluded.catch_up_max, catch_up_window = excluded.catch_up_window, overlap = excluded.overlap,
       jitter = excluded.jitter, pace_per_s = excluded.pace_per_s, run_deadline = excluded.run_deadline,
       queue = excluded.queue, priority = excluded.priority, tenant = excluded.tenant, limit_key = excluded.limit_key,
       attributes = excluded.attributes
 where (s.workflow, s.cron, s.timezone, s.params, s.dst_gap, s.dst_fold, s.catch_up, s.catch_up_max, s.catch_up_window,
        s.overlap, s.jitter, s.pace_per_s, s.run_deadline, s.queue, s.priority, s.tenant, s.limit_key, s.attributes)
    is distinct from (excluded.workflow, excluded.cron, excluded.timezone, excluded.params, excluded.dst_gap,
        excluded.dst_fold, excluded.catch_up, excluded.catch_up_max, excluded.catch_up_window, excluded.overlap,
        excluded.jitter, excluded.pace_per_s, excluded.run_deadline, excluded.queue, excluded.priority, excluded.tenant,
        excluded.limit_key, excluded.attributes)
returning s.revision = 1 as created
