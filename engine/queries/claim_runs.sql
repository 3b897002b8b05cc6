-- Claims a page under one claim id: of each queue so many, those that have waited longest first. Runs that holders died
-- on are asked for apart ($9), so that what kills a process takes few others with it.
with pick as (
    select p.id
      from unnest($1::text[], $2::integer[]) ask (queue, take)
     cross join lateral (
         select r.id
           from lockgate.task_runs r
          where coalesce(r.queue, r.workflow) = ask.queue and r.wake_at is not null
            -- The first bounds the scan, since no rank is later than wake_at; the second is looked at in the index.
            and coalesce(r.rank, r.wake_at) <= (select clock_timestamp()) and r.wake_at <= (select clock_timestamp())
            and r.claim_id is null and r.status in ('queued', 'running', 'suspended')
            -- What is to stop is run only to undo what it did.
            and (r.stop_status is null or r.undoing) and r.driven_by = 'engine' and (r.attempts >= $8) = $9
            and case when r.started_at is null then r.workflow = any ($3)
                     else r.workflow || '@' || coalesce(r.code_version, 1) = any ($5) end
            and (r.after_run is null or lockgate.waited_for(r.after_run) is null)
          order by coalesce(r.rank, r.wake_at)
          limit ask.take
            for no key update of r skip locked) p
     -- Of suspects one, whichever queue has it.
     limit case when $9 then 1 end
)
update lockgate.task_runs r
   set status = 'running', wake_at = null, rank = null, debounce_key = null,
       claim_token = r.claim_token + 1, claim_id = $6, claimed_by = $7, claimed_at = clock_timestamp(),
       lease_until = clock_timestamp() + make_interval(secs => $10), alone = case when $9 then true end,
       started_at = coalesce(r.started_at, clock_timestamp()),
       -- The ordinary version is not written down.
       code_version = case when r.started_at is null
                           then nullif(($4::integer[])[array_position($3::text[], r.workflow)], 1)
                           else r.code_version end
 -- As an array, so that each is looked up by its key, also by a plan that was made when there were no runs.
 where r.id = any (array(select id from pick))
returning r.id, r.claim_token, coalesce(r.queue, r.workflow) as queue, r.workflow, r.params, r.origin_id,
       coalesce(r.slot, r.repeats_slot) as slot, coalesce(r.nominal_at, r.created_at) as created_at, r.traceparent,
       r.wake_seq, r.started_at, r.claimed_at, r.attempts, coalesce(r.code_version, 1) as code_version, r.seed_id,
       case when r.forked_from is not null then r.created_at end as repeated_at,
       r.parent_id, coalesce(r.depth, 0::smallint) as depth, coalesce(r.undoing, false) as undoing,
       r.schedule is not null as scheduled,
       -- Whether it may have steps.
       r.claim_token > 1 or r.forked_from is not null as begun
