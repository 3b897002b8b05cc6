-- The run's row is locked: nothing is claimed meanwhile, and every batch released before is seen.
with unfinished as (
    -- Two counts, each served by its own partial index, instead of a walk over every batch of the run.
    select (select count(*) from lockgate.run_batches where run_id = $1 and status in ('free', 'recoverable'))
         + (select count(*) from lockgate.run_batches where run_id = $1 and status = 'claimed') as batches
), before as (
    select id, status from lockgate.task_runs where id = $1
), over as (
    update lockgate.task_runs r
       set status = 'completed', finished_at = clock_timestamp(), reason = null
      from before, unfinished
     where r.id = before.id and r.finished_at is null and r.stop_status is null and unfinished.batches = 0
    returning r.id, before.status as was
), audit as (
    insert into lockgate.transitions (entity, run_id, from_status, to_status, replica)
    select 'run', id, was, 'completed', $2 from over
)
select batches from unfinished
