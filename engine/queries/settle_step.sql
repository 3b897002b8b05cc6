-- One checkpoint, which may end an open row: a wait, or a step that was tried before. No row: it is settled already, or
-- the claim is lost.
with held as (
    select r.id, r.claim_token from lockgate.task_runs r where r.id = $1 and r.claim_token = $2 and r.claim_id = $3
), saved as (
    insert into lockgate.run_steps (run_id, path, kind, status, result, started_at, finished_at, attempts, claim_token,
                                    consistent, planned_items, planned_batches)
    select h.id, $4, $5, $6, $7, $8, $9, nullif($10::smallint, 0), h.claim_token, null, null, null
      from held h
    on conflict (run_id, path) do update
       set status = excluded.status, result = excluded.result, finished_at = excluded.finished_at,
           attempts = excluded.attempts, due_at = null, claim_token = excluded.claim_token
     where run_steps.status = 'open' and run_steps.kind = excluded.kind
    returning run_id, path
), consumed as (
    update lockgate.signals s
       set consumed_by = v.path
      from saved v
     where s.run_id = $1 and s.seq = $11 and s.consumed_by is null
)
select path from saved
