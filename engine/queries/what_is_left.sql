-- Which parts of a sweep may have anything to do. Each is found through the partial index of the part itself, and none leaves
-- out what its part would take: locked or not, of whichever page.
select exists (select from lockgate.run_batches b
                where b.status = 'claimed' and b.lease_until < (select clock_timestamp())) as batches,
       exists (select from lockgate.task_runs r
                where r.claim_id is not null and r.lease_until < (select clock_timestamp())) as runs,
       exists (select from lockgate.undelivered_messages m
                where m.status = 'claimed' and m.lease_until < (select clock_timestamp())) as undelivered,
       -- The first of all deadlines: asked whether there is any before now, a scan of the table looks cheap.
       coalesce((select r.deadline_at from lockgate.task_runs r
                  where r.status in ('queued', 'running', 'suspended', 'paused', 'quarantined') and r.stop_status is null
                    and r.deadline_at is not null
                  order by r.deadline_at
                  limit 1) < (select clock_timestamp()), false) as overdue,
       exists (select from lockgate.task_runs r
                where r.status in ('queued', 'running', 'suspended', 'paused', 'quarantined') and r.stop_status is not null
                  and r.undoing is distinct from true and r.claim_id is null) as stopping,
       exists (select from lockgate.run_steps s
                where s.kind = 'fan_out' and s.status = 'open' and s.planned_at is not null) as fan_outs,
       exists (select from lockgate.run_steps s where s.kind = 'child' and s.status = 'open') as children,
       -- In the order of the index, for the same reason.
       (select f.schedule from lockgate.task_runs f
         where f.schedule is not null and f.finished_at is null
           and f.after_run is not null and f.wake_at is null and f.status = 'queued'
         order by f.schedule, f.slot
         limit 1) is not null as followers,
       exists (select from lockgate.queues q
                where q.max_running is not null or q.max_per_key is not null or q.fair) as places
