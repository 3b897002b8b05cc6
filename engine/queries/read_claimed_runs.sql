-- What a claim whose answer was lost got.
select id, claim_token, coalesce(queue, workflow) as queue, workflow, params, origin_id,
       coalesce(slot, repeats_slot) as slot, coalesce(nominal_at, created_at) as created_at, traceparent,
       wake_seq, started_at, claimed_at, attempts, coalesce(code_version, 1) as code_version, seed_id,
       case when forked_from is not null then created_at end as repeated_at,
       parent_id, coalesce(depth, 0::smallint) as depth, coalesce(undoing, false) as undoing,
       schedule is not null as scheduled,
       -- Whether it may have steps.
       claim_token > 1 or forked_from is not null as begun
  from lockgate.task_runs
 where claim_id is not null and claim_id = $1
