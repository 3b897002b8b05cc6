-- Lets go of many runs in one commit, each judged by its own claim: they complete, fail, are set aside, wait, or are
-- handed back. What is to stop is let go of to undo later, or undone. A claim is audited here, once, with the instant it began. Waits that have a row keep it while it is open.
with m as (
    select * from unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::bytea[], $6::text[], $7::timestamptz[],
                         $8::double precision[], $9::bigint[], $10::boolean[], $17::jsonb[]) with ordinality
        m (run_id, token, claim_id, act, output, reason, due_at, delay_s, seen, had_batches, attributes, at)
), gone as (
    update lockgate.task_runs r
       set status = case when m.act = 'complete' then 'completed' when m.act = 'fail' then 'failed'
                         when m.act in ('quarantine', 'not_undone') then 'quarantined'
                         when m.act = 'overrun' and r.status = 'running' and r.overruns >= 4 and not n.progressed
                         then 'quarantined'
                         when m.act = 'wait' and r.status = 'running' then 'suspended' else r.status end,
           output = coalesce(m.output, r.output),
           reason = case when m.act in ('fail', 'quarantine', 'not_undone') then m.reason
                         when m.act = 'overrun' and r.status = 'running' and r.overruns >= 4 and not n.progressed
                         then m.reason || ', five times in a row' else r.reason end,
           -- Kept from its end until it is undone; forced, it is not waited for.
           undoing = case when m.act = 'unwound' then false
                          when m.act in ('wait_to_undo', 'not_undone') and r.stop_status is not null then coalesce(r.undoing, true)
                          else r.undoing end,
           finished_at = case when m.act in ('complete', 'fail') then clock_timestamp() end,
           wake_at = n.wake_at, rank = n.wake_at - r.priority * interval '15 seconds',
           attempts = case when m.act in ('wait', 'wait_batches', 'wait_to_undo') then 0 else r.attempts end,
           -- Code that records something each time is slow, and goes on.
           overruns = case when m.act in ('wait', 'wait_batches', 'wait_to_undo') then null
                           when m.act = 'overrun' then case when n.progressed then null
                                when coalesce(r.overruns, 0) < 4 then coalesce(r.overruns, 0) + 1 end
                           else r.overruns end,
           attributes = case when m.attributes is null then r.attributes
                             else lockgate.merged_attributes(r.attributes, m.attributes) end,
           claim_id = null, claimed_by = null, lease_until = null, alone = null
      from m
     cross join lateral (
         select case when m.act in ('wait', 'wait_batches', 'wait_to_undo') then m.due_at
                     when m.act in ('hand_back', 'overrun') then clock_timestamp() + make_interval(secs => m.delay_s)
                end as wake_at,
                m.act = 'overrun' and exists (select from lockgate.run_steps s
                                               where s.run_id = m.run_id and s.claim_token = m.token) as progressed) n
     where r.id = m.run_id and r.claim_token = m.token and r.claim_id = m.claim_id
       and case when m.act in ('wait', 'wait_batches') then r.stop_status is null and r.wake_seq = m.seen
                when m.act = 'wait_to_undo' then r.wake_seq = m.seen and r.undoing is distinct from false
                when m.act in ('complete', 'fail') then r.stop_status is null and r.status = 'running'
                     -- In the order of run_batches_waiting, as in complete_fan_out.
                     and (not m.had_batches
                          or ((select b.seq from lockgate.run_batches b
                                where b.run_id = r.id and b.status in ('free', 'recoverable')
                                order by b.not_before, b.seq
                                limit 1) is null
                              and (select b.seq from lockgate.run_batches b
                                    where b.run_id = r.id and b.status = 'claimed' limit 1) is null))
                else true end
    returning m.at, m.act, m.reason, r.id, r.status, r.claim_token, r.claimed_at
), gone_at as (
    -- Looked up by place and not joined: a thousand waits by a thousand runs is a million.
    select jsonb_object_agg(at, jsonb_build_array(id, claim_token)) as runs from gone where cardinality($11::bigint[]) > 0
), waits as (
    insert into lockgate.run_steps (run_id, path, kind, status, due_at, started_at, attempts, claim_token, consistent,
                                    planned_items, planned_batches)
    select (g.run ->> 0)::uuid, w.path, w.kind, 'open', w.due_at, clock_timestamp(), nullif(w.attempts, 0),
           (g.run ->> 1)::bigint, null, null, null
      from unnest($11::bigint[], $12::text[], $13::text[], $14::timestamptz[], $15::smallint[])
           w (at, path, kind, due_at, attempts)
     cross join gone_at
     cross join lateral (select gone_at.runs -> w.at::text as run) g
     where g.run is not null
    on conflict (run_id, path) do update
       set due_at = excluded.due_at, attempts = excluded.attempts, claim_token = excluded.claim_token
     where run_steps.status = 'open'
       -- A wait that is suspended again as it was is not written again.
       and (run_steps.due_at, run_steps.attempts) is distinct from (excluded.due_at, excluded.attempts)
), audit as (
    insert into lockgate.transitions (entity, run_id, from_status, to_status, token, replica, since, reason)
    select 'run', id, case status when 'paused' then 'paused' else 'running' end, status, claim_token, $16, claimed_at,
           case act when 'hand_back' then coalesce(reason, 'handed back') when 'wait_batches' then 'waits for its batches'
                    when 'unwound' then 'came to its end, as asked' else reason end
      from gone
), untold as (
    -- Its holder does not hear that this was once too often.
    insert into lockgate.untold (run_id, ended_as) select id, status from gone where act = 'overrun' and status = 'quarantined'
)
select at from gone
