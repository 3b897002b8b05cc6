-- Views for dashboards, alerts and people: stable, cheap whatever the history, and without inputs, outputs and payloads.
--
-- Columns are only ever added, at the end. Each view's comment says how it may be asked: "whole", select all of it; or
-- "by key", with one of the conditions named there, since all of it is as long as the history. What is
-- computed from the clock takes the start of the statement: a volatile function would keep a view from becoming part of the
-- question, and the question's conditions from being looked up.

create view lockgate.v_runs as
select r.id as run_id,
       r.workflow,
       coalesce(r.queue, r.workflow) as queue,
       r.status,
       r.stop_status as stopping,
       coalesce(r.undoing, false) as undoing,
       r.schedule,
       r.slot,
       r.created_at,
       r.started_at,
       r.finished_at,
       extract(epoch from coalesce(r.finished_at, statement_timestamp()) - r.created_at)::float8 as age_s,
       r.claimed_by as holder,
       r.lease_until,
       r.wake_at,
       r.deadline_at,
       r.claim_token as claims,
       r.attempts,
       r.priority,
       r.tenant,
       r.limit_key,
       r.holds,
       r.code_version,
       r.reason,
       r.actor,
       r.parent_id,
       r.parent_path,
       r.origin_id,
       r.forked_from,
       r.continued_as,
       coalesce(substr(r.traceparent, 4, 32), replace(r.id::text, '-', '')) as trace_id
  from lockgate.task_runs r;
comment on view lockgate.v_runs is 'Runs. By key: run_id; schedule and slot; parent; order by run_id desc limit n. What is not over: v_runs_held, v_stuck; what failed: v_failures';
comment on column lockgate.v_runs.run_id is 'The run; ids are in order of time';
comment on column lockgate.v_runs.queue is 'From where it is claimed';
comment on column lockgate.v_runs.stopping is
    'How it ends once nothing of it is held and what it did is undone; null: it was not asked to';
comment on column lockgate.v_runs.undoing is 'Whether its code undoes what it did';
comment on column lockgate.v_runs.age_s is 'Seconds from its start to its end, or to now';
comment on column lockgate.v_runs.holder is 'Replica that runs its code now';
comment on column lockgate.v_runs.claims is 'How often its code was taken up';
comment on column lockgate.v_runs.trace_id is 'Its trace';

create view lockgate.v_runs_held as
select r.id as run_id,
       r.workflow,
       coalesce(r.queue, r.workflow) as queue,
       r.claimed_by as holder,
       r.claimed_at,
       r.lease_until,
       r.claim_token as claims,
       r.attempts,
       coalesce(r.alone, false) as suspect,
       r.lease_until < statement_timestamp() as overdue
  from lockgate.task_runs r
 where r.claim_id is not null;
comment on view lockgate.v_runs_held is 'Runs whose code a replica runs now. Whole';
comment on column lockgate.v_runs_held.run_id is 'The run';
comment on column lockgate.v_runs_held.queue is 'From where it was claimed';
comment on column lockgate.v_runs_held.holder is 'Replica that runs its code';
comment on column lockgate.v_runs_held.claims is 'How often its code was taken up';
comment on column lockgate.v_runs_held.suspect is 'Whether it runs alone, because holders died on it';
comment on column lockgate.v_runs_held.overdue is 'Whether its lease has ended and nobody has recovered it yet';

create view lockgate.v_steps as
select s.run_id,
       s.path as step,
       s.kind,
       -- The run's end is the end of what was open in it; nobody writes that down.
       case when s.status = 'open' and r.finished_at is not null then 'ended' else s.status end as status,
       s.started_at,
       coalesce(s.finished_at, r.finished_at) as finished_at,
       s.due_at,
       coalesce(s.attempts, 0) as attempts,
       s.planned_items,
       s.planned_batches,
       s.plan_trouble
  from lockgate.run_steps s
  join lockgate.task_runs r on r.id = s.run_id;
comment on view lockgate.v_steps is 'Steps of runs, without what they returned. By key: run_id';
comment on column lockgate.v_steps.step is 'Its place in the code, ordinal:name joined by slashes';
comment on column lockgate.v_steps.status is
    'open, completed, failed, dropped (in a branch that lost a select), or ended (open when its run was over)';
comment on column lockgate.v_steps.finished_at is 'When it ended, or its run with it';
comment on column lockgate.v_steps.attempts is 'How often its code has failed';

create view lockgate.v_run_progress as
select s.run_id,
       r.workflow,
       r.status,
       s.path as step,
       s.started_at,
       s.planned_at is not null as planned_whole,
       s.planned_items as planned,
       s.planned_items - o.items as done,
       o.items as remaining,
       o.waiting,
       o.held,
       round(f.items / greatest(extract(epoch from statement_timestamp() - f.since), 1)::numeric, 1)::float8 as items_per_s,
       case when s.planned_at is not null and f.items > 0
            then statement_timestamp() + make_interval(secs => (o.items * greatest(extract(epoch from statement_timestamp() - f.since), 1)
                                                            / f.items)::float8) end as done_at,
       s.plan_trouble
  from lockgate.run_steps s
  join lockgate.task_runs r on r.id = s.run_id
 cross join lateral (
     select coalesce(sum(x.n_items), 0)::bigint as items, count(*) filter (where not x.is_held) as waiting,
            count(*) filter (where x.is_held) as held, max(x.seq) filter (where x.is_held) as last_held
       from (select w.seq, w.n_items, false as is_held from lockgate.run_batches w
              where w.run_id = s.run_id and w.step = s.path and w.status in ('free', 'recoverable')
             union all
             select c.seq, c.n_items, true from lockgate.run_batches c
              where c.run_id = s.run_id and c.step = s.path and c.status = 'claimed') x) o
 -- Batches go by number, so those right below the highest that is held were finished last.
 cross join lateral (
     select sum(d.n_items) as items, min(d.finished_at) as since
       from (select b.n_items, b.finished_at from lockgate.run_batches b
              where b.run_id = s.run_id and b.seq <= coalesce(o.last_held, r.last_batch_seq)
              order by b.seq desc limit 500) d
      where d.finished_at > (select clock_timestamp()) - interval '1 minute') f
 where s.kind = 'fan_out' and s.status = 'open' and r.finished_at is null;
comment on view lockgate.v_run_progress is 'Fan-outs under way: how far they are, and when they are done at this pace. Whole';
comment on column lockgate.v_run_progress.status is 'State of the run';
comment on column lockgate.v_run_progress.step is 'Its place in the code';
comment on column lockgate.v_run_progress.started_at is 'When the step began';
comment on column lockgate.v_run_progress.planned_whole is 'Whether the plan is complete; planned grows until then';
comment on column lockgate.v_run_progress.planned is 'Items planned so far';
comment on column lockgate.v_run_progress.done is 'Items of finished batches';
comment on column lockgate.v_run_progress.remaining is 'Items of batches that are not finished';
comment on column lockgate.v_run_progress.waiting is 'Batches that nobody holds';
comment on column lockgate.v_run_progress.held is 'Batches under a lease';
comment on column lockgate.v_run_progress.items_per_s is
    'Items a second, of the last minute or the last 500 batches; null: none';
comment on column lockgate.v_run_progress.done_at is 'When it is done at this pace';

create view lockgate.v_batches as
select b.run_id,
       b.seq,
       b.step,
       b.status,
       b.first_id,
       b.last_id,
       b.n_items as items,
       b.parent_seq,
       b.attempts,
       b.alone as suspect,
       nullif(b.not_before, '-infinity') as not_before,
       b.claim_token as claims,
       b.claimed_by as holder,
       b.lease_until,
       coalesce(b.status = 'claimed' and b.lease_until < statement_timestamp(), false) as overdue,
       b.delivered,
       b.refused,
       b.unknown,
       b.skipped,
       b.vanished,
       b.finished_at
  from lockgate.run_batches b;
comment on view lockgate.v_batches is 'Batches, without which of their items were not delivered. By key: run_id; run_id and seq; status = ''claimed''';
comment on column lockgate.v_batches.items is 'How many items';
comment on column lockgate.v_batches.suspect is 'Whether it runs alone, because holders died on it';
comment on column lockgate.v_batches.not_before is 'Not claimed again before then; null: at once';
comment on column lockgate.v_batches.claims is 'How often it was claimed';
comment on column lockgate.v_batches.holder is 'Replica that holds it or held it last';
comment on column lockgate.v_batches.overdue is 'Whether its lease has ended and nobody has recovered it yet';

create view lockgate.v_replicas as
with held as materialized (
    select t.claimed_by as replica, count(*) as runs from lockgate.task_runs t where t.claim_id is not null group by t.claimed_by
)
select r.id as replica,
       case when r.stopped_at is not null then 'stopped' when r.seen_at + r.stale_after < statement_timestamp() then 'gone'
            when r.draining then 'draining' else 'live' end as state,
       coalesce(l.expires_at > statement_timestamp(), false) as leads,
       r.version,
       array_to_string(r.roles, ',') as roles,
       cardinality(r.workflows) as workflows,
       r.started_at,
       r.seen_at,
       extract(epoch from statement_timestamp() - r.seen_at)::float8 as silent_s,
       r.stopped_at,
       r.in_flight as batches_held,
       coalesce(h.runs, 0) as runs_held,
       r.window_used,
       r.window_size,
       jsonb_array_length(r.breakers) as breakers_open,
       r.clock_offset_s
  from lockgate.replicas r
  left join held h on h.replica = r.id
  left join lockgate.leader_lease l on l.name = 'engine' and l.holder = r.id;
comment on view lockgate.v_replicas is 'Replicas that live, and those that are gone and not pruned yet. Whole';
comment on column lockgate.v_replicas.replica is 'One process start';
comment on column lockgate.v_replicas.state is 'live, draining, stopped (in good order) or gone (it says nothing any more)';
comment on column lockgate.v_replicas.leads is 'Whether it leads';
comment on column lockgate.v_replicas.roles is 'What it does: api, leader, worker';
comment on column lockgate.v_replicas.workflows is 'How many workflows'' code it has';
comment on column lockgate.v_replicas.silent_s is 'Seconds since its last heartbeat';
comment on column lockgate.v_replicas.batches_held is 'Batches that it held at its last heartbeat';
comment on column lockgate.v_replicas.runs_held is 'Runs whose code it runs now';
comment on column lockgate.v_replicas.breakers_open is 'Topics that it does not send to, or only tries';

create view lockgate.v_leader as
select coalesce(l.expires_at > statement_timestamp(), false) as leads,
       l.term,
       l.holder as replica,
       l.elected_at,
       l.expires_at,
       extract(epoch from l.expires_at - statement_timestamp())::float8 as expires_in_s,
       (select count(*) from (select t.at, t.to_status from lockgate.transitions t where t.entity = 'leader' order by t.id desc limit 1000) t
         where t.to_status = 'elected' and t.at > (select clock_timestamp()) - interval '1 hour') as elections_1h,
       (select count(*) from lockgate.replicas r
         where 'leader' = any (r.roles) and r.stopped_at is null
           and r.seen_at + r.stale_after > (select clock_timestamp())) as candidates
  from (values (true)) one
  left join lockgate.leader_lease l on l.name = 'engine';
comment on view lockgate.v_leader is 'Who leads. Whole: one row, whether somebody does or not';
comment on column lockgate.v_leader.leads is 'Whether somebody leads';
comment on column lockgate.v_leader.replica is 'Replica that leads, or led last';
comment on column lockgate.v_leader.expires_in_s is 'Seconds until its lease ends unless renewed';
comment on column lockgate.v_leader.elections_1h is 'Elections within the last hour';
comment on column lockgate.v_leader.candidates is 'Live replicas that lead or could';

create view lockgate.v_terms as
select t.at,
       t.term,
       t.to_status as event,
       t.replica,
       t.reason
  from lockgate.transitions t where t.entity = 'leader' order by t.id desc limit 200;
comment on view lockgate.v_terms is 'Who led when: the last 200 elections, ends and resignations, the newest first. Whole';
comment on column lockgate.v_terms.term is 'Which term';
comment on column lockgate.v_terms.event is 'elected or resigned';
comment on column lockgate.v_terms.replica is 'Who';

create view lockgate.v_schedules_next as
select s.name as schedule,
       s.workflow,
       s.cron,
       s.timezone,
       s.paused_at,
       s.last_slot,
       s.next_slot,
       case when s.paused_at is null and s.problem is null and isfinite(s.next_slot)
            then greatest(extract(epoch from statement_timestamp() - s.next_slot), 0)::float8 end as late_s,
       s.overlap,
       s.catch_up,
       s.problem,
       r.id as last_run,
       r.status as last_status,
       r.slot as last_run_slot,
       r.finished_at as last_finished_at
  from lockgate.schedules s
  left join lateral (
      select t.id, t.status, t.slot, t.finished_at from lockgate.task_runs t
       where t.schedule = s.name and t.slot is not null order by t.slot desc limit 1) r on true;
comment on view lockgate.v_schedules_next is 'Schedules, when they fire next, and how their last run is. By key: schedule; where paused_at is null order by next_slot limit n';
comment on column lockgate.v_schedules_next.schedule is 'Its name';
comment on column lockgate.v_schedules_next.late_s is 'Seconds its next slot is overdue; null: it does not fire';
comment on column lockgate.v_schedules_next.last_run is 'Run of its newest slot that has one';
comment on column lockgate.v_schedules_next.last_status is 'State of that run';
comment on column lockgate.v_schedules_next.last_run_slot is 'Slot of that run';
comment on column lockgate.v_schedules_next.last_finished_at is 'When that run was over';

create view lockgate.v_queue_health as
with recursive waiting as (
    (select coalesce(r.queue, r.workflow) as queue, 1 as number from lockgate.task_runs r
      where r.wake_at is not null and r.claim_id is null and r.status in ('queued', 'running', 'suspended')
      order by coalesce(r.queue, r.workflow) limit 1)
    union all
    select x.queue, w.number + 1
      from waiting w
     cross join lateral (
         select coalesce(r.queue, r.workflow) as queue from lockgate.task_runs r
          where r.wake_at is not null and r.claim_id is null and r.status in ('queued', 'running', 'suspended')
            and coalesce(r.queue, r.workflow) > w.queue
          order by coalesce(r.queue, r.workflow) limit 1) x
     where w.number < 256
), held as materialized (
    select coalesce(r.queue, r.workflow) as queue, count(*) as runs, min(r.claimed_at) as oldest
      from lockgate.task_runs r where r.claim_id is not null group by coalesce(r.queue, r.workflow)
), named as materialized (
    select n.queue from (select queue from waiting union select queue from held union select q.name from lockgate.queues q) n
     order by n.queue limit 256
), bound as materialized (
    -- Many queues are counted less far each, so that all of it stays quick.
    select greatest(100, least(1000, 20000 / greatest(count(*), 1))) as runs from named
)
select n.queue,
       least(w.runs, b.runs) as ready,
       w.runs > b.runs as capped,
       w.oldest as oldest_ready,
       greatest(extract(epoch from statement_timestamp() - w.oldest), 0)::float8 as oldest_ready_age_s,
       s.due as next_due,
       coalesce(h.runs, 0) as running,
       h.oldest as oldest_claim,
       p.runs as holding,
       q.max_running,
       q.max_per_key,
       q.rate_per_s,
       least(q.burst, q.tokens + q.rate_per_s * extract(epoch from statement_timestamp() - q.refilled_at))::float8 as tokens,
       coalesce(q.fair, false) as fair,
       coalesce(q.holds, 'code') as holds,
       q.paused_at,
       q.paused_by,
       q.pause_reason
  from named n
 cross join bound b
  left join held h on h.queue = n.queue
  left join lockgate.queues q on q.name = n.queue
 cross join lateral (
     select count(*) as runs, min(x.wake_at) as oldest
       from (select r.wake_at from lockgate.task_runs r
              where coalesce(r.queue, r.workflow) = n.queue and r.wake_at is not null and r.claim_id is null
                and r.status in ('queued', 'running', 'suspended')
                and coalesce(r.rank, r.wake_at) <= (select clock_timestamp()) and r.wake_at <= (select clock_timestamp())
              order by coalesce(r.rank, r.wake_at) limit b.runs + 1) x) w
 cross join lateral (
     select min(x.wake_at) as due
       from (select r.wake_at from lockgate.task_runs r
              where coalesce(r.queue, r.workflow) = n.queue and r.wake_at is not null and r.claim_id is null
                and r.status in ('queued', 'running', 'suspended') and coalesce(r.rank, r.wake_at) > (select clock_timestamp())
              order by coalesce(r.rank, r.wake_at) limit 1) x) s
  left join lateral (
      select count(*) as runs
        from (select from lockgate.task_runs r
               where coalesce(r.queue, r.workflow) = n.queue and r.holds is not null and r.finished_at is null
                 and (r.claim_id is not null or r.holds = 'run') limit 10000) x) p
    on q.max_running is not null or q.max_per_key is not null;
comment on view lockgate.v_queue_health is 'Queues that are set or have runs that wait or are claimed, the first 256: what waits, what runs, what is set. Whole';
comment on column lockgate.v_queue_health.queue is 'The queue; a workflow without one has its own name';
comment on column lockgate.v_queue_health.ready is
    'Runs whose code may go on now, counted up to 1,000, with many queues up to 100';
comment on column lockgate.v_queue_health.capped is 'Whether there are more than counted';
comment on column lockgate.v_queue_health.oldest_ready is 'Since when the first of them could go on';
comment on column lockgate.v_queue_health.oldest_ready_age_s is 'The same in seconds';
comment on column lockgate.v_queue_health.next_due is 'When the next of those that sleep wakes';
comment on column lockgate.v_queue_health.running is 'Runs whose code a replica runs now';
comment on column lockgate.v_queue_health.oldest_claim is 'Since when the first of these';
comment on column lockgate.v_queue_health.holding is
    'Runs that hold a place of a limited queue, counted up to 10,000; null: nothing limits how many';
comment on column lockgate.v_queue_health.tokens is 'Claims that its rate leaves now; null: no rate';
comment on column lockgate.v_queue_health.fair is 'Whether tenants take turns';
comment on column lockgate.v_queue_health.holds is
    'How long a run holds its place. code: while its code runs; run: from its first claim until it is over';

create view lockgate.v_queue_holders as
select coalesce(r.queue, r.workflow) as queue,
       r.limit_key,
       r.id as run_id,
       r.workflow,
       r.status,
       r.holds,
       r.tenant,
       r.claimed_by as replica,
       r.claimed_at,
       r.lease_until,
       r.wake_at
  from lockgate.task_runs r
 where r.holds is not null and r.finished_at is null and (r.claim_id is not null or r.holds = 'run');
comment on view lockgate.v_queue_holders is 'Who holds the places of limited queues. By key: queue; queue and limit_key; order by queue limit n';
comment on column lockgate.v_queue_holders.queue is 'The queue';
comment on column lockgate.v_queue_holders.run_id is 'The run that holds a place';
comment on column lockgate.v_queue_holders.replica is 'Replica that runs its code now; null: it waits, and keeps its place';

create view lockgate.v_failures as
select r.id as run_id,
       r.workflow,
       r.status,
       r.schedule,
       r.slot,
       r.finished_at,
       r.reason
  from lockgate.task_runs r where r.status in ('failed', 'cancelled') order by r.finished_at desc limit 1000;
comment on view lockgate.v_failures is 'Runs that failed or were cancelled: the last 1,000, the newest first. Whole';
comment on column lockgate.v_failures.run_id is 'The run';

create view lockgate.v_acts as
select t.at,
       t.actor,
       t.entity,
       t.run_id,
       t.key,
       t.from_status,
       t.to_status,
       t.reason
  from lockgate.transitions t
 where t.entity <> 'leader' and t.actor is not null and t.from_status is not null order by t.id desc limit 1000;
comment on view lockgate.v_acts is 'What people and programs asked for by hand: the last 1,000, the newest first. Whole';
comment on column lockgate.v_acts.actor is 'Who asked for it';

do $$
declare
    uncommented record;
begin
    -- A column that is one of its table's means what it means there.
    for uncommented in
        select v.relname as view, a.attname as name, col_description(t.oid, b.attnum) as meaning
          from (values ('v_runs', 'task_runs'), ('v_runs_held', 'task_runs'), ('v_steps', 'run_steps'), ('v_run_progress', 'run_steps'),
                       ('v_run_progress', 'task_runs'), ('v_batches', 'run_batches'), ('v_replicas', 'replicas'), ('v_leader', 'leader_lease'),
                       ('v_terms', 'transitions'), ('v_schedules_next', 'schedules'), ('v_queue_health', 'queues'), ('v_queue_holders', 'task_runs'),
                       ('v_failures', 'task_runs'), ('v_acts', 'transitions')) p (view, base)
          join pg_class v on v.relnamespace = 'lockgate'::regnamespace and v.relname = p.view
          join pg_class t on t.relnamespace = 'lockgate'::regnamespace and t.relname = p.base
          join pg_attribute a on a.attrelid = v.oid and a.attnum > 0 and col_description(v.oid, a.attnum) is null
          join pg_attribute b on b.attrelid = t.oid and b.attnum > 0 and not b.attisdropped and b.attname = a.attname
    loop
        execute format('comment on column lockgate.%I.%I is %L', uncommented.view, uncommented.name, uncommented.meaning);
    end loop;
end $$;

do $$
declare
    role text;
begin
    revoke all on lockgate.v_runs, lockgate.v_runs_held, lockgate.v_steps, lockgate.v_run_progress,
            lockgate.v_batches, lockgate.v_replicas, lockgate.v_leader, lockgate.v_terms,
            lockgate.v_schedules_next, lockgate.v_queue_health, lockgate.v_queue_holders, lockgate.v_failures,
            lockgate.v_acts from public;
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator', 'lockgate_reader') loop
        execute format('grant select on lockgate.v_runs, lockgate.v_runs_held, lockgate.v_steps, lockgate.v_run_progress,
            lockgate.v_batches, lockgate.v_replicas, lockgate.v_leader, lockgate.v_terms,
            lockgate.v_schedules_next, lockgate.v_queue_health, lockgate.v_queue_holders, lockgate.v_failures,
            lockgate.v_acts to %I', role);
        -- Runs of a time are found by their ids.
        execute format('grant execute on function lockgate.first_id_at(timestamptz) to %I', role);
    end loop;
end $$;
