-- Whether there is such a run.
select to_jsonb(exists (select 1 from lockgate.task_runs where id = $1))
