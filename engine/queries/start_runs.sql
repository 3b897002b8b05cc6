-- Starts a page of runs.
select to_jsonb(lockgate.start_runs($1, $2, $3, $4, $5, $6, $7, $8::float8 * interval '1 second', $9, $10))
