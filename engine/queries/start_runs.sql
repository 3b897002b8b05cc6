-- Starts a page of runs.
select to_jsonb(lockgate.start_runs($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14))
