-- What its holder dies of from now on is not counted against the run: it was claimed as a suspect, and its holder has lived.
update lockgate.task_runs
   set alone = null, attempts = 0
 where id = $1 and claim_token = $2 and claim_id = $3
