-- Deletes a run that is over; answers what became of it.
select to_jsonb(lockgate.delete_run($1, $2, $3))
