-- Picks runs of a limited queue, whose row is locked: those that go on in a place that they hold, then those that have
-- waited longest, as many as have room. What is of a full key is passed over; whether that was all that was looked at, the
-- counts say.
with gate as (
    select q.max_running, q.max_per_key, q.fair from lockgate.queues q where q.name = $1
), holders as (
    select coalesce(r.limit_key, '') as key, count(*) as runs
      from lockgate.task_runs r
     where coalesce(r.queue, r.workflow) = $1 and r.holds is not null and r.finished_at is null
       and (r.claim_id is not null or r.holds = 'run')
       and exists (select from gate where gate.max_running is not null or gate.max_per_key is not null)
     group by 1
), held as (
    -- Looked up by key and not joined: a thousand runs by a thousand keys is a million.
    select coalesce(sum(runs), 0)::bigint as runs, coalesce(jsonb_object_agg(key, runs), '{}') as by_key from holders
), keepers as materialized (
    -- Among the places that are held, whose index holds no more: of those of the two that have what is ready in its order, a
    -- plan made while nothing waits takes either, and one has all that waits for a place.
    select r.id
      from lockgate.task_runs r
     -- What makes it ready stands in a case, where it fits no other index.
     where coalesce(r.queue, r.workflow) = $1 and r.holds = 'run' and r.finished_at is null
       and case when r.claim_id is null and r.wake_at <= (select clock_timestamp())
                then r.status in ('queued', 'running', 'suspended') and (r.stop_status is null or r.undoing)
                    and r.driven_by = 'engine' and (r.attempts >= $6) = $7
                    and case when r.started_at is null then r.workflow = any ($3)
                             else r.workflow || '@' || coalesce(r.code_version, 1) = any ($4) end end
     order by coalesce(r.rank, r.wake_at)
), again as (
    -- One after the other: whoever is locked stands before nobody.
    select l.id
      from keepers k
     cross join lateral (
         select r.id
           from lockgate.task_runs r
          where r.id = k.id
            and case when r.claim_id is null and r.holds = 'run' and r.wake_at <= clock_timestamp()
                     then r.status in ('queued', 'running', 'suspended') and (r.stop_status is null or r.undoing)
                         and r.driven_by = 'engine' and (r.attempts >= $6) = $7 end
            for no key update of r skip locked) l
     limit $2
), room as (
    select greatest(0, least($2::bigint - (select count(*) from again), gate.max_running - held.runs, floor($5)::bigint)) as runs
      from gate cross join held
), seen as (
    select r.id, r.limit_key, coalesce(r.rank, r.wake_at) as rank
      from lockgate.task_runs r
     where coalesce(r.queue, r.workflow) = $1 and r.wake_at is not null
       -- The first bounds the scan, since no rank is later than wake_at; the second is looked at in the index.
       and coalesce(r.rank, r.wake_at) <= (select clock_timestamp()) and r.wake_at <= (select clock_timestamp())
       and r.claim_id is null and r.status in ('queued', 'running', 'suspended') and r.holds is distinct from 'run'
       and (r.stop_status is null or r.undoing) and r.driven_by = 'engine' and (r.attempts >= $6) = $7
       and case when r.started_at is null then r.workflow = any ($3)
                else r.workflow || '@' || coalesce(r.code_version, 1) = any ($4) end
       and (r.after_run is null or lockgate.waited_for(r.after_run) is null)
     order by coalesce(r.rank, r.wake_at)
     -- Whose turn it is in a fair queue, pick_runs_by_turn says.
     limit (select case when gate.fair then 0 else room.runs end from gate, room)
       for no key update of r skip locked
), fit as (
    select s.id
      from (select id, limit_key, row_number() over (partition by limit_key order by rank, id) as turn from seen) s
     cross join gate
     cross join held
     where gate.max_per_key is null or s.limit_key is null
        or s.turn + coalesce((held.by_key ->> s.limit_key)::bigint, 0) <= gate.max_per_key
)
select array(select id from again) as again, array(select id from fit) as fit, (select count(*) from seen) as seen, room.runs as room
  from room
