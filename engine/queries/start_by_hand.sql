-- Starts one run for whoever may act; the outcome says whether it is new, found, held or busy.
with started as (
    select outcome, run_id
      from lockgate.start_by_hand($1, $2, $3, $4, $5, greatest($6, clock_timestamp() + $19::float8 * interval '1 second'),
          $7, $8::float8 * interval '1 second', $9, $10, $11, $12, $13, $14, $15, $16, $17)
), untold as (
    -- Whoever asks may be over before it could say that it started a run, or roll it back.
    insert into lockgate.untold (run_id, started_by)
    select run_id, $18::text from started where outcome = 'new' and $18 is not null
)
select jsonb_build_object('outcome', outcome, 'run_id', run_id) from started
