-- The state of a run that was asked to stop; it is over once nothing of it is held.
with settled as (select lockgate.settle_stop($1) as over)
select case when settled.over then r.stop_status else 'stopping' end
  from settled cross join lockgate.task_runs r where r.id = $1
