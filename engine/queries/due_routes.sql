-- What is due, by lane and route, the lane that was claimed longest ago first; one look into the index for each pair.
with recursive routes as (
    (select o.lane, o.route, o.not_before, 1 as number
       from lockgate.outbox o
      order by o.lane, o.route, o.not_before
      limit 1)
    union all
    select x.lane, x.route, x.not_before, r.number + 1
      from routes r
     cross join lateral (
         select o.lane, o.route, o.not_before
           from lockgate.outbox o
          where (o.lane, o.route) > (r.lane, r.route)
          order by o.lane, o.route, o.not_before
          limit 1) x
     -- Bounded, should somebody invent topics without end: those behind come when these are gone.
     where r.number < 2000
)
select r.lane, r.route,
       l.lease_until is null or l.lease_until < (select clock_timestamp()) as free
  from routes r
  join lockgate.outbox_lanes l on l.lane = r.lane
 where r.not_before <= (select clock_timestamp())
 order by l.claimed_at nulls first, r.lane, r.route
