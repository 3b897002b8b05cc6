-- Claims runs of a limited queue that were picked, and locked, in this transaction; each gets its place with the claim.
update lockgate.task_runs r
   set status = 'running', wake_at = null, rank = null, debounce_key = null, holds = q.holds,
       claim_token = r.claim_token + 1, claim_id = $4, claimed_by = $5, claimed_at = clock_timestamp(),
       lease_until = clock_timestamp() + make_interval(secs => $6), alone = case when $7 then true end,
       started_at = coalesce(r.started_at, clock_timestamp()),
       code_version = case when r.started_at is null
                           then nullif(($3::integer[])[array_position($2::text[], r.workflow)], 1)
                           else r.code_version end
  from unnest($1::uuid[]) picked (id)
 cross join lockgate.queues q
 where r.id = picked.id and q.name = $8
returning r.id, r.claim_token, coalesce(r.queue, r.workflow) as queue, r.workflow, r.params, r.origin_id,
       coalesce(r.slot, r.repeats_slot) as slot, coalesce(r.nominal_at, r.created_at) as created_at, r.traceparent,
       r.wake_seq, r.started_at, r.claimed_at, r.attempts, coalesce(r.code_version, 1) as code_version, r.seed_id,
       case when r.forked_from is not null then r.created_at end as repeated_at,
       r.parent_id, coalesce(r.depth, 0::smallint) as depth, coalesce(r.undoing, false) as undoing,
       r.schedule is not null as scheduled,
       -- Whether it may have steps.
       r.claim_token > 1 or r.forked_from is not null as begun
