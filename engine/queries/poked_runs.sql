-- What others may have changed of runs that are held, and whose they are.
select id, claim_token, claim_id, stop_status is not null or finished_at is not null as halted,
       coalesce(not undoing, false) as forced, status = 'paused' as paused,
       wake_seq
  from lockgate.task_runs
 where id = any ($1)
