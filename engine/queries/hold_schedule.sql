-- Opens a write of the leader: its term stays true and the schedule as it was read until the transaction ends. A
-- schedule that somebody edits this moment is left for later: to wait for it would hold up the next leader.
with term as materialized (
    select 1
      from lockgate.leader_lease
     where name = 'engine' and term = $1 and holder = $2 and expires_at > clock_timestamp()
       for share
), held as (
    select s.overlap
      from lockgate.schedules s
     where exists (select 1 from term)
       and s.name = $3 and s.revision = $4 and s.paused_at is null and s.last_slot is not distinct from $5
       for no key update of s skip locked
)
select exists (select 1 from term) as leads, (select overlap from held) as overlap
