-- Schedules to look at: due, or new or edited; without those already tried. Two arms, each a range of schedules_due:
-- one condition with "or" would walk the whole index. Every row brings the one clock of the look, and how long it is until
-- the first slot of any (an endless one of who cannot fire); where nothing is to be looked at one row brings only these.
with clock as materialized (select clock_timestamp() as now),
fresh as (
    select s.* from lockgate.schedules s
     where s.paused_at is null and s.next_slot is null and s.name <> all ($2)
     limit $1
), due as (
    select s.* from lockgate.schedules s
     where s.paused_at is null and s.next_slot <= (select now from clock) and s.name <> all ($2)
     order by s.next_slot
     limit $1
)
select c.now, extract(epoch from n.next_slot)::float8 - extract(epoch from c.now)::float8 as next_in,
       s.name, s.revision, s.cron, s.timezone, s.dst_gap, s.dst_fold, s.catch_up, s.catch_up_max,
       extract(epoch from s.catch_up_window)::float8 as window_secs, extract(epoch from s.jitter)::float8 as jitter_secs,
       s.last_slot, s.active_from, s.workflow
  from clock c
  left join (select * from fresh union all select * from due) s on true
  left join (select f.next_slot from lockgate.schedules f
              where f.paused_at is null and f.next_slot is not null
              order by f.next_slot limit 1) n on true
