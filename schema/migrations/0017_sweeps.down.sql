drop index lockgate.run_steps_open;
drop index lockgate.task_runs_stopping;
drop index lockgate.task_runs_overdue;
