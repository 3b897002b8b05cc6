-- Since when retention has been deleting the rows of a run.
select to_jsonb(pruning_since) from lockgate.task_runs where id = $1 and pruning_since is not null
