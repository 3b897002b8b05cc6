-- Ends runs that go on as others, and starts those, in one commit. A run's singleton key, place in its queue, parent and
-- schedule pass on, and so do signals that it has not taken: one that it has not seen refuses its end.
with m as (
    select * from unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::uuid[], $5::bytea[], $6::bigint[], $7::boolean[],
                         $9::jsonb[])
           with ordinality
        m (run_id, token, claim_id, next_id, next_params, seen, had_batches, attributes, at)
), gone as (
    update lockgate.task_runs r
       set status = 'completed', continued_as = m.next_id, finished_at = clock_timestamp(), wake_at = null, rank = null,
           claim_id = null, claimed_by = null, lease_until = null, alone = null,
           attributes = case when m.attributes is null then r.attributes
                             else lockgate.merged_attributes(r.attributes, m.attributes) end
      from m
     -- As in save_steps.
     where r.id = m.run_id and r.claim_token = m.token and r.claim_id is not distinct from m.claim_id
       and r.stop_status is null and r.status = 'running' and r.wake_seq = m.seen
       -- In the order of run_batches_waiting, as in complete_fan_out.
       and (not m.had_batches
            or ((select b.seq from lockgate.run_batches b
                  where b.run_id = r.id and b.status in ('free', 'recoverable')
                  order by b.not_before, b.seq
                  limit 1) is null
                and (select b.seq from lockgate.run_batches b
                      where b.run_id = r.id and b.status = 'claimed' limit 1) is null))
    returning m.at, m.next_id, m.next_params, r.*
), next as (
    insert into lockgate.task_runs (id, workflow, queue, priority, status, driven_by, params, origin_id, singleton_key,
                                    wake_at, rank, wake_seq, pace_per_s, deadline_at, traceparent, tenant, limit_key,
                                    attributes, parent_id, parent_path, depth, detached, schedule, leader_term, continues,
                                    chain, holds, awaited, actor, start_at, created_at)
    -- It was woken once: what it was told is read with its first claim. Its deadline counts from when the first was to start.
    select g.next_id, g.workflow, g.queue, g.priority, 'queued', g.driven_by, g.next_params, g.next_id, g.singleton_key,
           g.finished_at, g.finished_at - g.priority * interval '15 seconds', 1, g.pace_per_s, g.deadline_at,
           case when g.traceparent is not null then lockgate.trace_link(g.id, g.traceparent) end,
           g.tenant, g.limit_key, g.attributes, g.parent_id, g.parent_path, g.depth, g.detached, g.schedule,
           g.leader_term, g.id, coalesce(g.chain, g.id), case when g.holds = 'run' then g.holds end, g.awaited, g.actor,
           coalesce(g.start_at, g.created_at), g.finished_at
      from gone g
), told as (
    update lockgate.signals s
       set run_id = g.next_id, seq = n.place, chain = coalesce(g.chain, g.id)
      from gone g
     cross join lateral (
         select w.seq, row_number() over (order by w.seq) as place
           from lockgate.signals w where w.run_id = g.id and w.consumed_by is null) n
     where s.run_id = g.id and s.seq = n.seq
), audit as (
    insert into lockgate.transitions (entity, run_id, from_status, to_status, token, replica, since, reason)
    select 'run', id, 'running', 'completed', claim_token, $8, claimed_at, 'continued as ' || next_id from gone
)
select at from gone
