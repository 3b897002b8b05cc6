drop function lockgate.remove_schedule(text);
drop function lockgate.resume_schedule(text);
drop function lockgate.pause_schedule(text);
drop index lockgate.task_runs_unfinished_of_schedule;
