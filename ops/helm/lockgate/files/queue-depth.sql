-- What waits for a worker: batches that may be claimed, and runs whose code may go on. Counted only as far as scaling can use.
select (select count(*) from (
          select from lockgate.run_batches b
           where b.status in ('free', 'recoverable') and b.not_before <= (select clock_timestamp()) limit 10000) batches)
     + (select count(*) from (
          select from lockgate.task_runs r
           where r.wake_at <= (select clock_timestamp()) and r.claim_id is null
             and r.status in ('queued', 'running', 'suspended') limit 10000) runs) as waiting
