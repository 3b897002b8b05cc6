-- A schedule that fails each minute hides no other, up to 150 of them: the last slot that failed is found of each.
create index task_runs_failed_of_schedule on lockgate.task_runs (schedule, slot, id)
    where status = 'failed' and schedule is not null and (slot is not null or chain is not null);

-- Whoever asks for one kind has the others not looked for: no part of the union is cut off by itself, which would keep what is asked
-- for from going into any.
create or replace view lockgate.v_stuck as
with clock as materialized (
    select clock_timestamp() as now
), queues as materialized (
    select q.*, f.id as first_id, f.workflow as first_workflow
      from lockgate.v_queue_health q
     cross join lateral (
         select r.id, r.workflow from lockgate.task_runs r
          where coalesce(r.queue, r.workflow) = q.queue and r.wake_at is not null and r.claim_id is null
            and r.status in ('queued', 'running', 'suspended')
          order by coalesce(r.rank, r.wake_at) limit 1) f
     where q.oldest_ready < (select now from clock) - interval '5 minutes'
), workers as materialized (
    -- One without brokers has no window.
    select r.workflows, r.window_size > 0 as sends from lockgate.replicas r
     where r.stopped_at is null and r.seen_at + r.stale_after > (select now from clock) and 'worker' = any (r.roles)
), nobody as materialized (
    select case when exists (select from workers) and not exists (select from workers w where w.sends)
                then 'no live worker has brokers' else 'nobody sends them' end as why
), idle as materialized (
    select s.run_id, s.path, s.planned_at
      from lockgate.run_steps s
      join lockgate.task_runs r on r.id = s.run_id
     where s.kind = 'fan_out' and s.status = 'open' and s.planned_at < (select now from clock) - interval '1 minute'
       and r.status in ('running', 'suspended')
       and (select b.seq from lockgate.run_batches b
             where b.run_id = s.run_id and b.step = s.path and b.status in ('free', 'recoverable')
             order by b.not_before, b.seq limit 1) is null
       and not exists (select from lockgate.run_batches b where b.run_id = s.run_id and b.step = s.path and b.status = 'claimed')
     order by s.run_id limit 100
), unsent as materialized (
    -- Batches wait and nobody holds any. A batch that was handed back waits a little; one of a paced run waits for its turn.
    select s.run_id, s.path, s.started_at, r.workflow, coalesce(r.code_version, 1) as code_version
      from lockgate.run_steps s
      join lockgate.task_runs r on r.id = s.run_id
     where s.kind = 'fan_out' and s.status = 'open' and (s.planned_at is not null or not s.consistent)
       and s.started_at < (select now from clock) - interval '10 minutes'
       and r.status = 'running' and r.stop_status is null and r.driven_by = 'engine'
       and r.pace_next_at < (select now from clock) - interval '10 minutes'
       and (select b.not_before from lockgate.run_batches b
             where b.run_id = s.run_id and b.step = s.path and b.status in ('free', 'recoverable')
             order by b.not_before, b.seq limit 1) < (select now from clock) + interval '1 minute'
       and not exists (select from lockgate.run_batches b where b.run_id = s.run_id and b.step = s.path and b.status = 'claimed')
     order by s.run_id limit 100
), dated as materialized (
    select s.run_id, s.path, r.deadline_at, r.pace_per_s
      from lockgate.run_steps s
      join lockgate.task_runs r on r.id = s.run_id
     where s.kind = 'fan_out' and s.status = 'open' and s.started_at < (select now from clock) - interval '1 minute'
       and r.deadline_at is not null and r.finished_at is null and r.stop_status is null
     order by r.deadline_at limit 20
), failing as (
    -- Of the runs that failed last, and by name, each by one look into the index.
    with recursive names as (
        (select x.schedule, 1 as place from lockgate.task_runs x
          where x.status = 'failed' and x.schedule is not null and (x.slot is not null or x.chain is not null) order by x.schedule limit 1)
        union all
        select (select x.schedule from lockgate.task_runs x
                 where x.status = 'failed' and x.schedule is not null and (x.slot is not null or x.chain is not null) and x.schedule > n.schedule
                 order by x.schedule limit 1), n.place + 1
          from names n where n.schedule is not null and n.place < 150
    )
    select n.schedule from names n where n.schedule is not null
    union
    select r.schedule
      from (select x.schedule from lockgate.task_runs x
             where x.status = 'failed' and (x.slot is not null or x.chain is not null)
               and x.finished_at > (select now from clock) - interval '30 days'
             order by x.finished_at desc limit 100) r where r.schedule is not null
), failed as materialized (
    -- The last slot of each that failed. A run that goes on as another has its slot at the head of its chain.
    select s.name as schedule, l.*
      from failing n
      join lockgate.schedules s on s.name = n.schedule and s.paused_at is null
     cross join lateral (
         select c.*
           from ((select x.slot, x.id as head, x.id, x.finished_at, x.reason from lockgate.task_runs x
                   where x.status = 'failed' and x.schedule = s.name and x.slot is not null
                   order by x.slot desc limit 1)
                 union all
                 (select h.slot, h.id, r.id, r.finished_at, r.reason
                    from (select x.id, x.chain, x.finished_at, x.reason from lockgate.task_runs x
                           where x.status = 'failed' and x.schedule = s.name and x.slot is null and x.chain is not null
                           order by x.slot desc, x.id desc limit 5) r
                    join lockgate.task_runs h on h.id = r.chain and h.slot is not null)) c
          -- Not of an earlier schedule of that name.
          where c.finished_at > (select now from clock) - interval '30 days' and c.finished_at >= s.created_at
          order by c.slot desc limit 1) l
), unmoved as materialized (
    -- Of which no batch was finished for long, nor was its run resumed. Two changes a batch: whoever moves has a finish among these.
    select u.*, greatest(u.started_at, x.moved_at) as since, x.reason
      from unsent u
     cross join lateral (
         select max(t.at) filter (where t.entity = 'run' or t.to_status = 'done') as moved_at,
                (array_agg(t.reason order by t.id desc) filter (
                    where t.from_status = 'claimed' and t.to_status = 'free' and t.at > (select now from clock) - interval '10 minutes'))[1] as reason
           from (select y.id, y.at, y.entity, y.from_status, y.to_status, y.reason from lockgate.transitions y where y.run_id = u.run_id
                  order by y.run_id desc, y.id desc limit 500) t) x
     where greatest(u.started_at, x.moved_at) < (select now from clock) - interval '10 minutes'
)
select 'no_leader' as kind,
       'leadership' as subject,
       null::uuid as run_id,
       coalesce(l.expires_at, c.now) as since,
       format('nobody leads, %s live replicas could: nothing is fired, recovered or pruned', l.candidates) as why
  from lockgate.v_leader l cross join clock c
 where not l.leads and (l.expires_at is null or l.expires_at < c.now - interval '5 seconds')
union all
select 'run_lease', y.* from (
 select r.id::text, r.id, r.lease_until,
        format('replica %s does not renew it, and nobody recovers it: is there a leader, is the row locked?', r.claimed_by)
   from lockgate.task_runs r
  where r.claim_id is not null and r.lease_until < (select now from clock) - interval '30 seconds' order by r.id limit 100) y
union all
select 'batch_lease', y.* from (
 select format('%s/%s', b.run_id, b.seq), b.run_id, b.lease_until,
        format('replica %s does not renew it, and nobody recovers it: is there a leader, is the row locked?', b.claimed_by)
   from lockgate.run_batches b
  where b.status = 'claimed' and b.lease_until < (select now from clock) - interval '30 seconds'
  order by b.run_id, b.seq limit 100) y
union all
select 'lane_lease', format('lane %s', l.lane), null, l.lease_until,
       format('replica %s does not renew it, and nobody takes it over', l.claimed_by)
  from lockgate.outbox_lanes l
 where l.lease_until < (select now from clock) - interval '30 seconds'
   -- A lane is taken over when there is something to send.
   and exists (select from lockgate.outbox o where o.lane = l.lane and o.not_before <= (select now from clock))
union all
select 'undelivered_lease', y.* from (
 select m.id::text, m.run_id, m.lease_until,
        format('replica %s does not renew it, and nobody recovers it', m.claimed_by)
   from lockgate.undelivered_messages m
  where m.status = 'claimed' and m.lease_until < (select now from clock) - interval '30 seconds'
  order by m.command_type, m.id limit 100) y
union all
select 'run_ready', format('queue %s', q.queue), q.first_id, q.oldest_ready,
       case when not exists (select from workers) then 'no worker lives'
            when not exists (select from workers w where q.first_workflow = any (w.workflows))
            then format('no live worker has workflow %s', q.first_workflow)
            when q.holding >= q.max_running then format('%s%s wait, %s of at most %s hold a place: v_queue_holders', q.ready,
                case when q.capped then ' or more' else '' end, q.holding, q.max_running)
            else format('%s%s wait, %s run: too few workers, a limit of a key, a rate, or code of another version: lockgate runs why',
                q.ready, case when q.capped then ' or more' else '' end, q.running) end
  from queues q where q.paused_at is null
union all
select 'queue_paused', format('queue %s', q.queue), q.first_id, q.oldest_ready,
       format('the queue is paused by %s: %s', q.paused_by, q.pause_reason)
  from queues q where q.paused_at is not null
union all
select y.* from (
 select case when r.undoing then 'run_undoing' else 'run_stopping' end, r.id::text, r.id, r.stop_requested_at,
        format('it is to end as %s (%s), and %s', r.stop_status, r.stop_reason,
               case when r.undoing then 'its code has not undone all that it did yet' else 'something of it is still held' end)
   from lockgate.task_runs r
  where r.status in ('queued', 'running', 'suspended', 'paused', 'quarantined') and r.stop_status is not null
    and r.stop_requested_at < (select now from clock) - case when r.undoing then interval '10 minutes' else interval '1 minute' end
  order by r.id limit 100) y
union all
select 'run_overdue', y.* from (
 select r.id::text, r.id, r.deadline_at, 'it is past its deadline, and no sweep has asked it to end: is there a leader?'
   from lockgate.task_runs r
  where r.status in ('queued', 'running', 'suspended', 'paused', 'quarantined') and r.stop_status is null
    and r.deadline_at < (select now from clock) - interval '1 minute'
  order by r.deadline_at limit 100) y
union all
(select 'run_held_long', h.id::text, h.id, coalesce(x.at, h.claimed_at),
        format('replica %s holds it and has recorded nothing of it for more than an hour: does its code hang?', h.claimed_by)
   -- The ten that are held longest, and of them those whose steps are soon read: others record something.
   from (select r.id, r.claimed_at, r.claimed_by from lockgate.task_runs r
          where r.claim_id is not null and r.claimed_at < (select now from clock) - interval '1 hour'
            and r.lease_until > (select now from clock) - interval '30 seconds'
          order by r.claimed_at limit 10) h
  cross join lateral (
      select max(coalesce(y.finished_at, y.started_at)) as at, count(*) as steps
        from (select s.started_at, s.finished_at from lockgate.run_steps s where s.run_id = h.id limit 201) y) x
  where x.steps <= 200 and coalesce(x.at, h.claimed_at) < (select now from clock) - interval '1 hour'
    -- Batches move by themselves: fan_out_idle is of those.
    and not exists (select from lockgate.run_steps s
                     where s.run_id = h.id and s.kind = 'fan_out' and s.status = 'open' and (s.planned_at is not null or s.planned_batches > 0)))
union all
select 'run_late', y.* from (
 select format('%s %s', d.run_id, d.path), d.run_id, d.deadline_at,
        format('at its pace what is planned is done at %s, past the deadline of its run', to_char(x.done_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
   from dated d
  -- Key by key.
  cross join lateral (
      select p.remaining, p.items_per_s from lockgate.v_run_progress p
       where p.run_id = d.run_id and p.step = d.path offset 0) p
  -- Of a plan that is not whole, what is planned. A paced run ends few batches, of which the last minute says little.
  cross join lateral (
      select (select now from clock)
             + make_interval(secs => p.remaining / nullif(coalesce(d.pace_per_s::float8, p.items_per_s), 0)) as done_at) x
  where x.done_at > d.deadline_at
  order by d.deadline_at limit 100) y
union all
select 'run_quarantined', y.* from (
 select h.id::text, h.id, t.at, coalesce(h.reason, h.status)
   from (select r.id, r.status, r.reason, r.created_at from lockgate.task_runs r where r.status = 'quarantined' order by r.id limit 100) h
  cross join lateral (
      select coalesce(max(x.at), h.created_at) as at from lockgate.transitions x
       where x.run_id = h.id and x.entity = 'run' and x.to_status = h.status) t) y
union all
select 'run_paused_long', y.* from (
 select h.id::text, h.id, t.at, coalesce(h.reason, h.status)
   from (select r.id, r.status, r.reason, r.created_at from lockgate.task_runs r where r.status = 'paused' order by r.id limit 100) h
  cross join lateral (
      select coalesce(max(x.at), h.created_at) as at from lockgate.transitions x
       where x.run_id = h.id and x.entity = 'run' and x.to_status = h.status) t
  where t.at < (select now from clock) - interval '1 day') y
union all
(select 'fan_out_open', format('%s %s', i.run_id, i.path), i.run_id, greatest(i.planned_at, f.at),
        'all of its batches are finished, and nobody completes it: is there a leader?'
   from idle i
  cross join lateral (
      select max(b.finished_at) as at
        from (select x.finished_at from lockgate.run_batches x where x.run_id = i.run_id and x.step = i.path order by x.seq desc limit 2000) b) f
  where greatest(i.planned_at, f.at) < (select now from clock) - interval '1 minute')
union all
select 'fan_out_idle', format('%s %s', u.run_id, u.path), u.run_id, u.since,
       case when not exists (select from workers) then 'no worker lives'
            when not exists (select from workers w where u.workflow = any (w.workflows)) then format('no live worker has workflow %s', u.workflow)
            when not exists (select from workers w where w.sends and u.workflow = any (w.workflows))
            then format('no live worker with workflow %s has brokers', u.workflow)
            when u.reason is not null then format('its batches are handed back: %s', u.reason)
            else format('its batches are claimed by nobody: has a live worker code that replays version %s of workflow %s?', u.code_version, u.workflow) end
  from unmoved u
 -- Its topic takes nothing, which is told as what it is.
 where u.reason is distinct from 'breaker open' or not exists (select from lockgate.v_breakers)
union all
select 'source_trouble', y.* from (
 select format('%s %s', s.run_id, s.path), s.run_id, s.started_at, s.plan_trouble
   from lockgate.run_steps s
   join lockgate.task_runs r on r.id = s.run_id
  where s.kind = 'fan_out' and s.status = 'open' and s.plan_trouble is not null and r.finished_at is null
  order by s.run_id limit 100) y
union all
select 'schedule_late', y.* from (
 select s.name, null::uuid, s.next_slot, 'its slot is past and was not fired: is there a leader?'
   from lockgate.schedules s
  where s.paused_at is null and s.next_slot < (select now from clock) - interval '2 minutes' and s.problem is null
  order by s.next_slot limit 100) y
union all
select 'schedule_late', y.* from (
 select s.name, null::uuid, s.updated_at, 'it was set, and nobody has worked out when it fires: is there a leader?'
   from lockgate.schedules s
  where s.paused_at is null and s.next_slot is null and s.problem is null
    and s.updated_at < (select now from clock) - interval '2 minutes' limit 100) y
union all
select 'schedule_broken', y.* from (
 select s.name, null::uuid, s.updated_at, s.problem
   from lockgate.schedules s where s.problem is not null order by s.name limit 100) y
union all
select 'schedule_failed', y.* from (
 select f.schedule, f.id, f.finished_at, format('its last run failed: %s', coalesce(f.reason, 'it does not say why'))
   from failed f
  where not exists (select from lockgate.task_runs n where n.schedule = f.schedule and n.slot > f.slot and n.finished_at is not null)
    -- Somebody has it done again, or has done so.
    and not exists (
        with recursive again as (
            select r.id from lockgate.task_runs r where r.forked_from in (f.id, f.head)
            union
            select r.id from again a join lockgate.task_runs r on r.forked_from in (a.id, lockgate.last_run(a.id))
        )
        select from again a join lockgate.task_runs l on l.id = lockgate.last_run(a.id) where l.status <> 'failed')
  order by f.finished_at desc limit 100) y
union all
select 'undelivered_due', format('topic %s', u.topic), null, u.first_due,
       format('%s%s are due, and %s', u.due, case when u.capped then ' or more' else '' end, n.why)
  from lockgate.v_undelivered_topics u cross join nobody n where u.overdue_s > 600 and not u.breaker_open
union all
select 'outbox_waiting', format('lane %s, route %s', o.lane, o.route), null, o.oldest, coalesce(o.last_error, n.why)
  from lockgate.v_outbox_health o cross join nobody n where o.oldest_age_s > 300
union all
select 'breaker_open', format('topic %s', b.topic), null, min(b.since), format('%s, on %s replicas', max(b.reason), count(*))
  -- Half-open, it tries, and that may take longer than the pauses between: a topic that takes nothing is mostly so.
  from lockgate.v_breakers b group by b.topic
union all
select 'dead_letters', 'undelivered messages', null, u.oldest,
       format('%s%s were given up: v_undelivered_reasons', u.messages, case when u.capped then ' or more' else '' end)
  from lockgate.v_undelivered u where u.status = 'dead' and u.messages > 0
union all
select 'old_snapshot', format('%s %s', o.kind, coalesce(o.pid::text, o.application)), null, o.since,
       format('%s of %s keeps deleted rows from being cleared away', coalesce(o.application, o.kind), o.who)
  from lockgate.old_snapshots('15 minutes') o where o.since is not null;

comment on view lockgate.v_stuck is 'What does not move, and why; empty when all is well. Whole: at most some hundred rows of a kind; or by key: kind';
