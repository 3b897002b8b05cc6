-- The state of a run.
select to_jsonb(r.status) from lockgate.task_runs r where r.id = $1
