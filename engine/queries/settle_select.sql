-- Which branch of a select won, with what becomes of the others. The run is locked: what a zombie frees, its successor
-- could not know of. No row: it is settled already, or the claim is lost.
with held as (
    select r.id, r.claim_token
      from lockgate.task_runs r
     where r.id = $1 and r.claim_token = $2 and r.claim_id = $3
       for no key update
), saved as (
    insert into lockgate.run_steps (run_id, path, kind, status, result, started_at, finished_at, attempts, claim_token,
                                    consistent, planned_items, planned_batches)
    select h.id, $4, $5, $6, $7, $8, $9, nullif($10::smallint, 0), h.claim_token, null, null, null
      from held h
    on conflict do nothing
    returning run_id, path, finished_at
), lost as (
    select saved.run_id, saved.finished_at, l.prefix from saved cross join unnest($11::text[]) l (prefix)
), dropped as (
    update lockgate.run_steps s
       set status = 'dropped', due_at = null, finished_at = lost.finished_at
      from lost
     where s.run_id = lost.run_id and starts_with(s.path, lost.prefix) and s.status = 'open'
       and s.kind not in ('fan_out', 'undoable', 'child')
), freed as (
    update lockgate.signals s
       set consumed_by = null
      from lost
     where s.run_id = lost.run_id and starts_with(s.consumed_by, lost.prefix)
)
select path, lockgate.cut_fan_outs(run_id, $11), lockgate.stop_lost_children(run_id, $11) from saved
