-- Which of these runs were asked to stop, or are over.
select id from lockgate.task_runs where id = any ($1) and (stop_status is not null or finished_at is not null)
