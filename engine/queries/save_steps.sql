-- Checkpoints of many runs, each under its run's claim, which is looked at and not locked: whoever took over meanwhile
-- meets the same path, of which there is one. What has no row yet is inserted: a path that has one refuses all of them,
-- which are then settled one by one. What ends an open row and finds none is answered as not written.
with m as (
    select * from unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::bytea[],
                         $8::timestamptz[], $9::timestamptz[], $10::smallint[], $11::bigint[], $12::boolean[])
           with ordinality
        m (run_id, token, claim_id, path, kind, status, result, started_at, finished_at, attempts, signal_seq, ends_open, at)
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
      from held where not ends_open
), ended as (
    update lockgate.run_steps s
       set status = h.status, result = h.result, finished_at = h.finished_at, attempts = nullif(h.attempts, 0),
           due_at = null, claim_token = h.token
      from held h
     where h.ends_open and s.run_id = h.run_id and s.path = h.path and s.status = 'open' and s.kind = h.kind
    returning h.at, h.run_id, h.path, h.signal_seq
), consumed as (
    update lockgate.signals s
       set consumed_by = w.path
      from (select run_id, path, signal_seq from held where not ends_open and signal_seq is not null
            union all
            select run_id, path, signal_seq from ended where signal_seq is not null) w
     -- Each by its key, also by a plan that was made when there were no signals.
     cross join lateral (select i.ctid from lockgate.signals i where i.run_id = w.run_id and i.seq = w.signal_seq limit 1) i
     where s.ctid = i.ctid and s.consumed_by is null
)
-- What is held and what is written, which are not joined: a thousand by a thousand is a million.
select at, not ends_open as written from held
union all
select at, true from ended
