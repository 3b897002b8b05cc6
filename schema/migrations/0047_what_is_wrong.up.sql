-- What is wrong is named when it is, and only then: commands that are to wait are not late, a breaker that tries is not
-- closed, and a fleet that was switched off breaks no promise.

create or replace view lockgate.v_undelivered as
with recursive topics as (
    (select m.topic, m.next_attempt_at, 1 as number from lockgate.undelivered_messages m
      where m.status = 'due' order by m.topic, m.next_attempt_at limit 1)
    union all
    select x.topic, x.next_attempt_at, t.number + 1
      from topics t
     cross join lateral (
         select m.topic, m.next_attempt_at from lockgate.undelivered_messages m
          where m.status = 'due' and m.topic > t.topic order by m.topic, m.next_attempt_at limit 1) x
     where t.number < 200
), due as materialized (
    -- Since when the first of them may go; and since when the first of those is stored that were tried in vain, among the
    -- oldest. Neither counts what is to wait for a time of its own.
    select least((select min(t.next_attempt_at) from topics t),
                 (select min(x.created_at) filter (where x.attempts > 0)
                    from (select m.created_at, m.attempts from lockgate.undelivered_messages m where m.status = 'due'
                           order by m.status, m.created_at limit 1000) x)) as since
)
select s.status,
       least(c.n, 10000) as messages,
       c.n > 10000 as capped,
       o.oldest,
       extract(epoch from statement_timestamp() - o.oldest)::float8 as oldest_age_s,
       case when o.oldest is not null
            then greatest(extract(epoch from statement_timestamp() - case s.status when 'due' then u.since else o.oldest end), 0)::float8
       end as waiting_s
  from (values ('due'), ('claimed'), ('refused'), ('dead')) s (status)
 cross join due u
 cross join lateral (
     select count(*) as n
       from (select from lockgate.undelivered_messages m where m.status = s.status
              order by m.status, m.created_at limit 10001) x) c
 cross join lateral (
     select min(x.created_at) as oldest
       from (select m.created_at from lockgate.undelivered_messages m where m.status = s.status
              order by m.status, m.created_at limit 1) x) o;
comment on column lockgate.v_undelivered.waiting_s is
    'Seconds the first of them has waited; of those that are due since it may go, or was stored if it was tried before. 0: all are to wait for a time of their own';

create or replace view lockgate.v_stuck as
with clock as materialized (
    select clock_timestamp() as now
), queues as materialized (
    select * from lockgate.v_queue_health q where q.oldest_ready < (select now from clock) - interval '5 minutes'
), workers as materialized (
    select r.workflows from lockgate.replicas r
     where r.stopped_at is null and r.seen_at + r.stale_after > (select now from clock) and 'worker' = any (r.roles)
), idle as materialized (
    select s.run_id, s.path, s.planned_at
      from lockgate.run_steps s
      join lockgate.task_runs r on r.id = s.run_id
     where s.kind = 'fan_out' and s.status = 'open' and s.planned_at < (select now from clock) - interval '1 minute'
       and r.status in ('running', 'suspended')
       and not exists (select from lockgate.run_batches b where b.run_id = s.run_id and b.status in ('free', 'recoverable'))
       and not exists (select from lockgate.run_batches b where b.run_id = s.run_id and b.status = 'claimed')
     order by s.run_id limit 100
)
select 'no_leader' as kind,
       'leadership' as subject,
       null::uuid as run_id,
       coalesce(l.expires_at, c.now) as since,
       format('nobody leads, %s live replicas could: nothing is fired, recovered or pruned', l.candidates) as why
  from lockgate.v_leader l cross join clock c
 where not l.leads and (l.expires_at is null or l.expires_at < c.now - interval '5 seconds')
union all
(select 'run_lease', r.id::text, r.id, r.lease_until,
        format('replica %s does not renew it, and nobody recovers it: is there a leader, is the row locked?', r.claimed_by)
   from lockgate.task_runs r
  where r.claim_id is not null and r.lease_until < (select now from clock) - interval '30 seconds' order by r.id limit 100)
union all
(select 'batch_lease', format('%s/%s', b.run_id, b.seq), b.run_id, b.lease_until,
        format('replica %s does not renew it, and nobody recovers it: is there a leader, is the row locked?', b.claimed_by)
   from lockgate.run_batches b
  where b.status = 'claimed' and b.lease_until < (select now from clock) - interval '30 seconds'
  order by b.run_id, b.seq limit 100)
union all
select 'lane_lease', format('lane %s', l.lane), null, l.lease_until,
       format('replica %s does not renew it, and nobody takes it over', l.claimed_by)
  from lockgate.outbox_lanes l
 where l.lease_until < (select now from clock) - interval '30 seconds'
   -- A lane is taken over when there is something to send.
   and exists (select from lockgate.outbox o where o.lane = l.lane and o.not_before <= (select now from clock))
union all
(select 'undelivered_lease', m.id::text, m.run_id, m.lease_until,
        format('replica %s does not renew it, and nobody recovers it', m.claimed_by)
   from lockgate.undelivered_messages m
  where m.status = 'claimed' and m.lease_until < (select now from clock) - interval '30 seconds'
  order by m.command_type, m.id limit 100)
union all
select case when q.paused_at is null then 'run_ready' else 'queue_paused' end, format('queue %s', q.queue), f.id, q.oldest_ready,
       case when q.paused_at is not null then format('the queue is paused by %s: %s', q.paused_by, q.pause_reason)
            when not exists (select from workers) then 'no worker lives'
            when not exists (select from workers w where f.workflow = any (w.workflows)) then format('no live worker has workflow %s', f.workflow)
            when q.holding >= q.max_running then format('%s%s wait, %s of at most %s hold a place: v_queue_holders', q.ready,
                case when q.capped then ' or more' else '' end, q.holding, q.max_running)
            else format('%s%s wait, %s run: too few workers, a limit of a key, a rate, or code of another version: lockgate runs why',
                q.ready, case when q.capped then ' or more' else '' end, q.running) end
  from queues q
 cross join lateral (
     select r.id, r.workflow from lockgate.task_runs r
      where coalesce(r.queue, r.workflow) = q.queue and r.wake_at is not null and r.claim_id is null
        and r.status in ('queued', 'running', 'suspended')
      order by coalesce(r.rank, r.wake_at) limit 1) f
union all
(select case when r.undoing then 'run_undoing' else 'run_stopping' end, r.id::text, r.id, r.stop_requested_at,
        format('it is to end as %s (%s), and %s', r.stop_status, r.stop_reason,
               case when r.undoing then 'its code has not undone all that it did yet' else 'something of it is still held' end)
   from lockgate.task_runs r
  where r.status in ('queued', 'running', 'suspended', 'paused', 'quarantined') and r.stop_status is not null
    and r.stop_requested_at < (select now from clock) - case when r.undoing then interval '10 minutes' else interval '1 minute' end
  order by r.id limit 100)
union all
(select 'run_overdue', r.id::text, r.id, r.deadline_at, 'it is past its deadline, and no sweep has asked it to end: is there a leader?'
   from lockgate.task_runs r
  where r.status in ('queued', 'running', 'suspended', 'paused', 'quarantined') and r.stop_status is null
    and r.deadline_at < (select now from clock) - interval '1 minute'
  order by r.deadline_at limit 100)
union all
(select case h.status when 'quarantined' then 'run_quarantined' else 'run_paused_long' end, h.id::text, h.id, t.at,
        coalesce(h.reason, h.status)
   from (select r.id, r.status, r.reason from lockgate.task_runs r
          where r.status in ('paused', 'quarantined') order by r.status desc, r.id limit 100) h
  cross join lateral (
      select coalesce(max(x.at), (select r.created_at from lockgate.task_runs r where r.id = h.id)) as at from lockgate.transitions x
       where x.run_id = h.id and x.entity = 'run' and x.to_status = h.status) t
  where h.status = 'quarantined' or t.at < (select now from clock) - interval '1 day'
  limit 100)
union all
(select 'fan_out_open', format('%s %s', i.run_id, i.path), i.run_id, greatest(i.planned_at, f.at),
        'all of its batches are finished, and nobody completes it: is there a leader?'
   from idle i
  cross join lateral (
      select max(b.finished_at) as at
        from (select x.finished_at from lockgate.run_batches x where x.run_id = i.run_id order by x.seq desc limit 2000) b) f
  where greatest(i.planned_at, f.at) < (select now from clock) - interval '1 minute')
union all
(select 'source_trouble', format('%s %s', s.run_id, s.path), s.run_id, s.started_at, s.plan_trouble
   from lockgate.run_steps s
   join lockgate.task_runs r on r.id = s.run_id
  where s.kind = 'fan_out' and s.status = 'open' and s.plan_trouble is not null and r.finished_at is null
  order by s.run_id limit 100)
union all
(select 'schedule_late', s.name, null, s.next_slot, 'its slot is past and was not fired: is there a leader?'
   from lockgate.schedules s
  where s.paused_at is null and s.next_slot < (select now from clock) - interval '2 minutes' and s.problem is null
  order by s.next_slot limit 100)
union all
(select 'schedule_late', s.name, null, s.updated_at, 'it was set, and nobody has worked out when it fires: is there a leader?'
   from lockgate.schedules s
  where s.paused_at is null and s.next_slot is null and s.problem is null
    and s.updated_at < (select now from clock) - interval '2 minutes' limit 100)
union all
(select 'schedule_broken', s.name, null, s.updated_at, s.problem
   from lockgate.schedules s where s.problem is not null order by s.name limit 100)
union all
select 'undelivered_due', format('topic %s', u.topic), null, u.first_due,
       format('%s%s are due, and nobody sends them', u.due, case when u.capped then ' or more' else '' end)
  from lockgate.v_undelivered_topics u where u.overdue_s > 600 and not u.breaker_open
union all
select 'outbox_waiting', format('lane %s, route %s', o.lane, o.route), null, o.oldest, coalesce(o.last_error, 'nobody sends it')
  from lockgate.v_outbox_health o where o.oldest_age_s > 300
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

create or replace view lockgate.v_invariants as
select 'V01' as invariant,
       format('%s/%s', b.run_id, b.seq) as subject,
       format('the run is %s, the batch is held', r.status) as detail
  from lockgate.run_batches b join lockgate.task_runs r on r.id = b.run_id
 where b.status = 'claimed' and r.finished_at is not null
union all
select 'V02', r.id::text, format('%s, held by %s with token %s until %s', r.status, r.claimed_by, r.claim_token, r.lease_until)
  from lockgate.task_runs r
 where r.claim_id is not null
   and (r.claim_token = 0 or r.claimed_by is null or r.lease_until is null or r.finished_at is not null)
union all
select 'V03', format('term %s', t.term), format('elected at %s, %s', t.at, t.reason)
  from (select * from lockgate.transitions x where x.entity = 'leader' order by x.id desc limit 1000) t
 where t.to_status = 'elected' and substring(t.reason from '^the lease before ended at (.*)$')::timestamptz > t.at
union all
select 'V03', format('term %s', t.term), format('elected %s times', count(*))
  from (select * from lockgate.transitions x where x.entity = 'leader' order by x.id desc limit 1000) t
 where t.to_status = 'elected' group by t.key, t.term having count(*) > 1
union all
-- A claim is audited once, at its end.
select 'V04', h.id::text, format('claimed %s times, the ends of %s claims are audited', h.claim_token, t.ends)
  from (select r.id, r.claim_token from lockgate.task_runs r
         where r.claim_id is not null and r.driven_by = 'engine' order by r.id desc limit 100) h
 cross join lateral (
     select count(distinct x.token) as ends from lockgate.transitions x
      where x.run_id = h.id and x.entity = 'run' and x.since is not null) t
 where t.ends <> h.claim_token - 1
union all
select 'V05', format('%s %s', s.run_id, s.path), 'the run is completed, its fan-out is open'
  from lockgate.run_steps s join lockgate.task_runs r on r.id = s.run_id
 where s.kind = 'fan_out' and s.status = 'open' and r.status = 'completed'
union all
-- Stored in the statement that finishes the batch.
select 'V06', u.id::text, format('item %s of batch %s/%s, which is %s', u.item_id, u.run_id, u.batch_seq, coalesce(b.status, 'not there'))
  from (select m.id, m.run_id, m.batch_seq, m.item_id from lockgate.undelivered_messages m
         where m.run_id is not null and m.status in ('due', 'refused', 'claimed', 'dead')
         order by m.run_id limit 500) u
  left join lockgate.run_batches b on b.run_id = u.run_id and b.seq = u.batch_seq
 where b.status is distinct from 'done' or u.item_id is null or u.item_id not between b.first_id and b.last_id
union all
select 'V07', format('%s/%s', b.run_id, b.seq), format('%s, but held by %s until %s', b.status, b.claimed_by, b.lease_until)
  from (select * from lockgate.run_batches x where x.status in ('free', 'recoverable')
         order by x.run_id, x.not_before, x.seq limit 1000) b
 where b.claim_id is not null or b.claimed_by is not null or b.lease_until is not null
union all
-- A child and the step that waits for it come into being together.
select 'V08', format('%s %s', s.run_id, s.path), format('waits for %s unfinished or last children', c.children)
  from (select x.run_id, x.path from lockgate.run_steps x where x.kind = 'child' and x.status = 'open'
         order by x.run_id, x.path limit 500) s
 cross join lateral (
     select count(*) as children from lockgate.task_runs r
      where r.parent_id = s.run_id and r.parent_path = s.path and r.continued_as is null) c
 where c.children <> 1
union all
-- Where nobody is there who could lead, nothing is promised to move.
select 'V10', format('%s %s', s.kind, s.subject), s.why
  from lockgate.v_stuck s
 where s.kind in ('no_leader', 'run_lease', 'batch_lease', 'lane_lease', 'undelivered_lease', 'run_stopping', 'run_overdue',
                  'fan_out_open', 'schedule_late')
   and s.since < (select clock_timestamp()) - interval '10 minutes'
   and exists (select from lockgate.replicas r
                where 'leader' = any (r.roles) and r.stopped_at is null and r.seen_at + r.stale_after > (select clock_timestamp()));
