drop table lockgate.run_steps;
drop table lockgate.task_runs;
