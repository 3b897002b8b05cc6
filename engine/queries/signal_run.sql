-- Sends a signal to a run; answers what became of it.
select to_jsonb(lockgate.signal_run($1, $2, $3, $4, $5, $6))
