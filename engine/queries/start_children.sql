-- Starts children of many runs, each with the step that waits for it, under its parent's claim: both or none of them. What
-- it is not told it has from its parent. Asked again it starts nothing twice, since ids are made of run and step.
with m as (
    select * from unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::timestamptz[], $6::uuid[], $7::uuid[],
                         $8::text[], $9::bytea[], $10::text[], $11::smallint[], $12::timestamptz[], $13::double precision[],
                         $14::text[], $15::text[], $16::jsonb[], $17::text[], $18::boolean[]) with ordinality
        m (run_id, token, claim_id, path, begun_at, id, origin_id, workflow, params, queue, priority, start_at, deadline_s,
           tenant, limit_key, attributes, traceparent, detached, at)
), held as (
    select m.*, r.depth as above, r.priority as of_parent, r.tenant as for_whom, r.traceparent as trace, r.actor
      from m
      -- As in save_steps.
      join lockgate.task_runs r on r.id = m.run_id and r.claim_token = m.token and r.claim_id is not distinct from m.claim_id
), started as (
    insert into lockgate.task_runs (id, workflow, queue, status, driven_by, params, origin_id, wake_at, rank, priority,
                                    deadline_at, tenant, limit_key, attributes, traceparent, parent_id, parent_path, depth,
                                    detached, actor, start_at, created_at)
    select h.id, h.workflow, h.queue, 'queued', 'engine', h.params, h.origin_id, t.at,
           t.at - coalesce(h.priority, h.of_parent) * interval '15 seconds', coalesce(h.priority, h.of_parent),
           t.at + make_interval(secs => h.deadline_s), coalesce(h.tenant, h.for_whom), h.limit_key, h.attributes,
           coalesce(h.traceparent, h.trace), h.run_id, h.path, coalesce(h.above, 0) + 1, h.detached, h.actor, h.start_at, b.born
      from held h
     cross join (select clock_timestamp() as born) b
     cross join lateral (select coalesce(h.start_at, b.born) as at) t
    on conflict (id) do nothing
), opened as (
    insert into lockgate.run_steps (run_id, path, kind, status, started_at, claim_token, consistent, planned_items,
                                    planned_batches)
    select run_id, path, 'child', 'open', begun_at, token, null, null, null from held
    on conflict (run_id, path) do nothing
)
select at from held
