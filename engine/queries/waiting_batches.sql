-- How many batches of a run wait, counted no further than asked.
select count(*) from (
    select 1 from lockgate.run_batches where run_id = $1 and status in ('free', 'recoverable') limit $2) waiting
