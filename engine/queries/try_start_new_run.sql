-- The indexes decide; the function says how: new, found, held or busy.
select outcome, run_id
  from lockgate.try_start_new_run($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
