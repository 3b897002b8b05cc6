-- Checkpoints of many runs that have no row yet and take no signal, which nearly all are; see save_steps.sql for the others.
-- A statement that only inserts is started in a third of the time.
with m as (
    select * from unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::bytea[],
                         $8::timestamptz[], $9::timestamptz[], $10::smallint[])
           with ordinality
        m (run_id, token, claim_id, path, kind, status, result, started_at, finished_at, attempts, at)
), held as (
    select m.*
      from m
      -- By its key also in a plan that was made when there were no runs: a claim that is equal would say that the run is held,
      -- and such a plan then goes through all that are, for each step.
      join lockgate.task_runs r on r.id = m.run_id and r.claim_token = m.token and r.claim_id is not distinct from m.claim_id
), saved as (
    insert into lockgate.run_steps (run_id, path, kind, status, result, started_at, finished_at, attempts, claim_token,
                                    consistent, planned_items, planned_batches)
    select run_id, path, kind, status, result, started_at, finished_at, nullif(attempts, 0), token, null, null, null
      from held
)
select at, true as written from held
