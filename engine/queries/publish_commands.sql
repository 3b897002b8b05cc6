-- Puts commands of runs into the outbox, each with the step that records it, under its run's claim: both or none of them. A
-- path that has a row publishes nothing.
with m as (
    select * from unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::bytea[], $6::timestamptz[], $7::timestamptz[],
                         $8::text[], $9::uuid[], $10::text[], $11::bytea[], $12::text[], $13::bytea[], $14::timestamptz[])
           with ordinality
        m (run_id, token, claim_id, path, result, started_at, finished_at, command_type, message_id, route, key, headers,
           payload, not_before, at)
), held as (
    select m.*
      from m
      -- As in save_steps.
      join lockgate.task_runs r on r.id = m.run_id and r.claim_token = m.token and r.claim_id is not distinct from m.claim_id
), saved as (
    insert into lockgate.run_steps (run_id, path, kind, status, result, started_at, finished_at, claim_token, consistent,
                                    planned_items, planned_batches)
    select run_id, path, 'publish', 'completed', result, started_at, finished_at, token, null, null, null from held
    on conflict (run_id, path) do nothing
    returning run_id, path
), saved_at as (
    -- Looked up by place and not joined: a thousand by a thousand is a million.
    select coalesce(jsonb_object_agg(run_id || ' ' || path, true), '{}') as places from saved
), written as (
    select h.* from held h cross join saved_at where saved_at.places ? (h.run_id || ' ' || h.path)
), enqueued as (
    insert into lockgate.outbox (command_type, message_id, route, key, headers, payload, not_before)
    select command_type, message_id, route, key, headers::jsonb, payload, coalesce(not_before, '-infinity')
      from written
     order by at
    on conflict on constraint outbox_once do nothing
)
select h.at, saved_at.places ? (h.run_id || ' ' || h.path) as written from held h cross join saved_at
