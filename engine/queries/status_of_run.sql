-- The state of a run, or of the one that goes on in its place.
select to_jsonb(r.status) from lockgate.task_runs r where r.id = lockgate.last_run($1)
