-- Starts one run for whoever may act; the outcome says whether it is new, found, held or busy.
select jsonb_build_object('outcome', s.outcome, 'run_id', s.run_id)
  from lockgate.start_by_hand($1, $2, $3, $4, $5, $6, $7, $8::float8 * interval '1 second', $9, $10, $11, $12, $13, $14, $15,
      $16, $17) s
