-- Makes a run wait until another is over.
update lockgate.task_runs set after_run = $2 where id = $1
